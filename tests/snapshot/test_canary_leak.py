"""A canary reaches neither outputs, nor events, nor metrics, nor what a model sees upstream."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

import pytest
from tests.conftest import clone
from tests.snapshot import noaa_day_stored
from tests.snapshot.noaa_day import DAY

from airflow_detection.domain.specs import ModelSpec, Role
from airflow_detection.store import registry, roles
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database

CANARY = re.compile(r"-|canary")
CYCLES = range(58, 60)
EVERYONE = (
    "track_quality", "spoofing", "ais_gap", "identity_collision", "gear_identity_collision", "encounter",
    "position_unavailable",
    "loitering", "risk_score",
)  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["inline", "task"])
def stored(server: str, template: str, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """Two cycles of every reference model, and of one that listens to all of them; nothing to be changed."""
    with clone(server, template) as dsn, connect(dsn) as conn:
        noaa_day_stored.load(conn)
        listener = ModelSpec(
            model_id="listener", cycle_id="maritime", entrypoint="tests.snapshot.planted_faults:Listener",
            depends_on=EVERYONE, entity_key="entity_id", score_key="score",
        )  # fmt: skip
        registry.put_model(Database(conn, "detection"), listener)
        registry.put_version(Database(conn, "detection"), model_id="listener", version="1", params={})
        roles.assign_role(
            Database(conn, "detection"), model_id="listener", version="1", role=Role.PRIMARY, since=DAY
        )
        noaa_day_stored.run(conn, CYCLES, is_inline=request.param)
        yield conn


def canaries_of(conn: Connection) -> dict[str, int]:
    rows = conn.execute(
        "select model_id, min(jsonb_array_length(canaries)) from detection.detection_model_runs group by 1"
    )
    return dict(rows.fetchall())


def test_no_canary_is_stored_or_seen(stored: Connection) -> None:
    assert canaries_of(stored).keys() == {*EVERYONE, "listener"}
    assert min(canaries_of(stored).values()) > 0
    wrong = stored.execute(
        "select model_id, c from detection.detection_model_runs, jsonb_array_elements(canaries) c"
        " where not (c ->> 'is_present')::boolean or (c ->> 'error')::float8 > 1e-4"
    ).fetchall()
    assert wrong == []
    by_model: dict[tuple[str, datetime], list[str]] = {}
    for model_id, at, entity in stored.execute(
        "select model_id, cycle_started_at, entity_id from detection.detection_model_run_outputs"
        " where role = 'PRIMARY' order by 1, 2, entity_id collate \"C\""
    ):
        by_model.setdefault((model_id, at), []).append(entity)
    finds_nothing = {"gear_identity_collision", "position_unavailable"}
    assert {m for m, _ in by_model} >= {*EVERYONE, "listener"} - finds_nothing
    entities = {e for of_cycle in by_model.values() for e in of_cycle}
    assert not [e for e in entities if CANARY.match(e)]
    texts = stored.execute(
        "select outputs::text || input_ref::text from detection.detection_model_run_outputs"
        " where model_id <> 'listener'"
    ).fetchall()
    assert not [t for (t,) in texts if "canary" in t or re.search(r'"mmsi": ?-', t)]
    identities = stored.execute(
        "select entity_id from detection.detection_events"
        " union all select identity from detection.gear_identity_collisions"
    ).fetchall()
    assert not [e for (e,) in identities if CANARY.match(e)]
    listened = stored.execute(
        "select cycle_started_at, entity_id, outputs -> 'seen' from detection.detection_model_run_outputs"
        " where model_id = 'listener'"
    ).fetchall()
    assert len(listened) == len(CYCLES) * (len(EVERYONE) + 1)
    for at, entity, seen in listened:
        upstream = entity.removeprefix("saw ")
        if upstream == "inputs":
            assert [e for e in seen if CANARY.match(e)] == ["-7"]  # its own
        else:
            assert seen == by_model.get((upstream, at), [])


def test_no_canary_is_counted(stored: Connection) -> None:
    """Events exist, so that the test above has something to look at; counts are of what is stored."""
    assert stored.execute("select count(*) from detection.detection_events").fetchall()[0][0] > 0
    rows = stored.execute(
        "select m.model_id, m.metric_key, m.metric_value, count(o.model_id),"
        "       count(*) filter (where o.score > 0), count(*) filter (where o.score > 0.7)"
        "  from detection.detection_model_metrics m left join detection.detection_model_run_outputs o"
        "       using (model_id, version_id, cycle_started_at)"
        " where m.metric_key in ('output_count', 'vessel_count', 'score_gt0_count', 'score_gt07_count')"
        " group by m.model_id, m.version_id, m.cycle_started_at, 2, 3"
    ).fetchall()
    assert len(rows) > 4 * len(EVERYONE)
    place = {"output_count": 3, "vessel_count": 3, "score_gt0_count": 4, "score_gt07_count": 5}
    assert [row for row in rows if row[2] != row[place[row[1]]]] == []
    counted = stored.execute(
        "select r.model_id, r.output_count, count(o.model_id) from detection.detection_model_runs r"
        "  left join detection.detection_model_run_outputs o using (model_id, version_id, cycle_started_at)"
        " group by r.model_id, r.version_id, r.cycle_started_at, 2 having r.output_count <> count(o.model_id)"
    ).fetchall()
    assert counted == []
