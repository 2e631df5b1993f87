"""Findings, entities, comparisons and reports: what was found, and would the challenger have found it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from tests.ui.conftest import AT, CHAMPION, CYCLES, FIRST, SHADOW, STEP, Pages
from tests.ui.page_models import HOSTILE, STRANGER

from airflow_detection.snapshot.comparison import compare_versions
from airflow_detection.store import pages as store_pages
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database
from airflow_detection.store.pages import EntityPeriod
from airflow_detection.store.partitions.create import ensure_cycle_months

pytestmark = pytest.mark.e2e
TWO = {"first": "spoofing@1", "second": "spoofing@2"}


def run_of(version: str, **more: Any) -> dict[str, Any]:
    return {"model_id": "spoofing", "version": version, "at": AT.isoformat(), **more}


def test_findings_of_a_shadow_stand_beside_its_champions(pages: Pages) -> None:
    found = pages.get("findings", **run_of("2"))
    assert found["output_count"] == 4
    assert sum(found["score_buckets"]) == 4
    assert [n for n, count in enumerate(found["score_buckets"]) if count] == [4, 14, 17, 18]
    assert (found["score_low"], found["score_high"]) == (0, 1)
    assert found["metrics"]["inputs"] == 0
    assert found["champion"]["version"]["label"] == "spoofing@1"
    assert sum(found["champion"]["score_buckets"]) == 4
    assert pages.get("findings", **run_of("1"))["champion"] is None
    failed = pages.get("findings", **run_of("3"))
    assert failed["outcome"] == "FAILED"
    assert failed["output_count"] == 0


def test_outputs_come_highest_first_beside_the_champions_scores(pages: Pages) -> None:
    first = pages.get("findings/outputs", **run_of("2", limit=3))
    rest = pages.get("findings/outputs", **run_of("2", limit=3, after=first["next"]))
    rows = first["items"] + rest["items"]
    assert [(r["entity_id"], r["score"], r["champion_score"]) for r in rows] == [
        ("a", 0.9, 0.9), (HOSTILE, 0.85, 0.8), ("c", 0.7, 0.1), ("b", 0.2, 0.6),
    ]  # fmt: skip
    assert rest["next"] is None
    assert rows[1]["outputs"]["evidence"]["why"] == f"{HOSTILE} is 0.85"
    (one,) = pages.get("findings/outputs", **run_of("2", q="SCRIPT"))["items"]
    assert one["entity_id"] == HOSTILE


def test_findings_without_a_key_are_refused_with_what_they_need(pages: Pages) -> None:
    answer = pages.client("root").get("api/findings")
    assert (answer.status_code, "dag_id" in answer.json()["detail"]) == (400, True)


def test_a_task_instance_has_the_findings_of_its_version(pages: Pages) -> None:
    run_id = "manual-1"
    pages.airflow.metadata.execute("delete from dag_run where run_id = %s", [run_id])
    pages.airflow.metadata.execute(
        "insert into dag_run (dag_id, run_id, logical_date, run_after, run_type, state, queued_at,"
        " triggered_by, clear_number, log_template_id) select 'detection_fleet', %s, %s, %s, 'manual',"
        " 'success', now(), 'TEST', 0, max(id) from log_template",
        [run_id, AT, AT],
    )
    keys = {"dag_id": "detection_fleet", "run_id": run_id, "map_index": -1}
    assert pages.get("findings", task_id="spoofing", **keys)["version"]["label"] == "spoofing@1"
    assert pages.get("findings", task_id="spoofing__2", **keys)["version"]["label"] == "spoofing@2"
    answer = pages.client("root").get("api/findings", params={"task_id": "open_cycle", **keys})
    assert answer.status_code == 404
    assert "no findings of its own" in answer.json()["detail"]
    assert pages.get(f"dag_runs/detection_fleet/{run_id}")["at"] == "2026-03-01T12:15:00Z"
    assert pages.status("dag_runs/detection_fleet/none") == 404


def test_an_entity_has_all_its_scores_events_labels_and_evidence(pages: Pages) -> None:
    found = pages.get("entities/a")
    assert found["end"] == "2026-03-01T12:15:01Z"
    lines = {line["label"]: line for line in found["scores"]}
    assert set(lines) == {"tracks@1", "spoofing@1", "spoofing@2", "secret@1", "secret@2"}
    assert lines["spoofing@1"]["score"] == [CHAMPION["a"]] * CYCLES
    assert lines["spoofing@1"]["at"][0] == "2026-03-01T12:00:00Z"
    assert {o["label"] for o in found["latest"]} == set(lines)
    assert [o["score"] for o in found["latest"]] == sorted(
        (o["score"] for o in found["latest"]), reverse=True
    )
    assert {e["model_id"] for e in found["events"]} == {"spoofing", "secret"}
    assert {(k["cycle_id"], k["actor"], k["is_positive"]) for k in found["labels"]} == {
        ("fleet", "inspector", True),
        ("hidden", "inspector", True),
    }
    one = pages.get("entities/a", cycle_id="fleet")
    assert {line["model_id"] for line in one["scores"]} == {"tracks", "spoofing"}
    assert pages.get("entities/nobody")["scores"] == []


def test_scores_of_long_ago_are_shown_where_they_are_high(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    period = EntityPeriod(entity_id="a", model_ids=["tracks", "spoofing"], start=FIRST, end=AT + STEP)
    complete = store_pages.complete_from(pages.db, period)
    whole = store_pages.entity_outputs(pages.db, period, complete, limit=100)
    assert complete == FIRST
    found = pages.get("entities/a", cycle_id="fleet")
    assert found["complete_from"] == found["start"]
    monkeypatch.setattr(store_pages, "MAX_READ", 20)  # ten outputs a cycle
    assert store_pages.complete_from(pages.db, period) == AT - STEP
    high = store_pages.entity_outputs(pages.db, period, period.end, limit=100)
    assert high == [row for row in whole if row["score"] > 0.3]
    assert {row["model_id"] for row in whole} - {row["model_id"] for row in high} == {"tracks"}
    with pages.db.conn.transaction(force_rollback=True):
        pages.db.conn.execute(
            "create index by_entity on detection.detection_model_run_outputs (entity_id, cycle_started_at)"
        )
        assert store_pages.complete_from(pages.db, period) == FIRST, "an index of all of them"


def test_an_entity_has_nothing_of_a_cycle_that_the_user_may_not_read(pages: Pages) -> None:
    text = pages.client(STRANGER).get("api/entities/a").text
    assert "secret" not in text
    assert "hidden" not in text


@pytest.mark.parametrize(
    "entity", [HOSTILE, "x/y", "ü?#%", "a b", "'; drop table x; --", "." * 3, "9" * 1500]
)
def test_any_text_is_an_entitys_id(pages: Pages, entity: str) -> None:
    assert pages.get(f"entities/{quote(entity, safe='')}")["entity_id"] == entity
    assert pages.get("entities", q=entity)["items"] == (
        [{"entity_id": HOSTILE, "last_seen_at": "2026-03-01T12:15:00Z"}] if entity == HOSTILE else []
    )


def test_entities_are_found_by_how_their_ids_begin(pages: Pages) -> None:
    assert [e["entity_id"] for e in pages.get("entities", q="<scr")["items"]] == [HOSTILE]
    assert pages.status("entities", q="") == 400


def test_a_comparison_is_that_of_the_hook(pages: Pages) -> None:
    answer = pages.get("compare", **TWO)
    same = compare_versions(pages.db, **TWO, known_at=None).to_json()
    for name in ("model_id", "cycles", "agreement", "labelled", "gate", "first", "second"):
        assert answer[name] == same[name], name
    assert answer["cycles"] == CYCLES
    assert answer["threshold_log10_e"] == pytest.approx(1.301, abs=1e-3)
    assert answer["curve"][0] == {"pairs": 0, "log10_e": 0}
    assert pages.get("compare", **TWO, replays="false")["cycles"] == CYCLES
    assert pages.get("compare", **TWO, end=(FIRST + STEP).isoformat())["cycles"] == 1


@pytest.mark.parametrize(
    ("params", "status"),
    [
        (TWO | {"second": "spoofing@1"}, 400),
        (TWO | {"second": "tracks@1"}, 400),
        (TWO | {"second": "spoofing@9"}, 404),
        (TWO | {"second": "spoofing"}, 404),
        (TWO | {"known_at": "2999-01-01"}, 400),
        (TWO | {"start": AT.isoformat(), "end": FIRST.isoformat()}, 400),
    ],
)
def test_a_comparison_that_cannot_be_is_one_sentence(
    pages: Pages, params: dict[str, Any], status: int
) -> None:
    answer = pages.client("root").get("api/compare", params=params)
    assert answer.status_code == status
    assert set(answer.json()) == {"detail"}


def test_no_answer_hints_at_versions_that_the_user_may_not_read(pages: Pages) -> None:
    for path in ("compare", "compare/entities"):
        for second in ("secret@2", "secrex@2", "spoofing@secret"):
            answer = pages.client(STRANGER).get(f"api/{path}", params=TWO | {"second": second})
            assert answer.status_code == 404
            assert answer.json()["detail"] == f"there is no version '{second}', or you may not read its Dag"


def test_the_entities_on_which_two_differ_are_pages_with_scores_and_evidence(pages: Pages) -> None:
    rows, after = [], None
    while True:
        page = pages.get("compare/entities", **TWO, limit=1, **({"after": after} if after else {}))
        rows += page["items"]
        after = page["next"]
        if after is None:
            break
    assert [(r["entity_id"], r["first_score"], r["second_score"]) for r in rows] == [
        (entity, CHAMPION[entity], SHADOW[entity]) for entity in ("c", "b", HOSTILE)
    ]
    assert rows[0]["at"] == "2026-03-01T12:15:00Z"
    assert rows[0]["first_outputs"]["evidence"] == {"why": "c is 0.1"}
    assert rows[0]["second_outputs"]["evidence"] == {"why": "c is 0.7"}
    flips = pages.get("compare/entities", **TWO, only="flips")["items"]
    assert [r["entity_id"] for r in flips] == ["c", "b"]
    assert [r["entity_id"] for r in pages.get("compare/entities", **TWO, q="SCRIPT")["items"]] == [HOSTILE]


def test_reports_are_listed_and_shown_to_who_may_read_every_cycle(pages: Pages) -> None:
    (row,) = pages.get("reports", kind="hourly")["items"]
    report = pages.get(f"reports/{row['snapshot_id']}")
    assert (report["headline"], report["status"]) == (row["headline"], row["status"])
    assert (report["before"], report["changes"]) == (None, [])
    assert {s["name"] for s in report["sections"]} >= {"verdicts", "scores"}
    page = pages.client("viewer").get(f"api/reports/{row['snapshot_id']}/html")
    assert page.headers["content-type"].startswith("text/html")
    assert "sandbox" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert pages.get("reports", STRANGER) == {"items": [], "next": None}
    for path in (f"reports/{row['snapshot_id']}", f"reports/{row['snapshot_id']}/html", "reports/4711"):
        assert pages.status(path, STRANGER) == 404


def test_a_drawing_is_an_image_of_what_the_user_may_read(pages: Pages) -> None:
    drawn = pages.client("viewer").get("api/drawings/track", params={"entity_id": "a"})
    assert drawn.headers["content-type"] == "image/svg+xml"
    assert "no position" in drawn.text
    assert pages.get("entities/a")["drawings"] == [], "an id that is no vessel's"
    for name, entity in (("track", "nobody"), ("nothing", "a")):
        assert pages.status(f"drawings/{name}", entity_id=entity) == 404
    pages.db.conn.execute("delete from detection.ais_positions")
    hostile = pages.client("root").get("api/drawings/track", params={"entity_id": HOSTILE})
    assert "<script" not in hostile.text
    assert "&lt;script" in hostile.text


def test_a_promotions_curve_is_an_image(pages: Pages) -> None:
    (row,) = pages.get("promotions", model_id="spoofing")["items"]
    drawn = pages.client("viewer").get(f"api/promotions/{row['promotion_id']}/curve.svg")
    assert drawn.headers["content-type"] == "image/svg+xml"
    assert "no label decides" in drawn.text
    assert pages.status("promotions/4711/curve.svg") == 404


def test_scores_beyond_0_to_1_are_counted_in_their_own_span(database: Connection) -> None:
    ensure_cycle_months(Database(database, "detection"), AT)
    database.cursor().executemany(
        "insert into detection.detection_model_run_outputs (cycle_started_at, model_id, version_id, role,"
        " entity_id, score, input_ref, outputs) values (%s, 'm', %s, 'PRIMARY', 'e', %s, '{}', '{}')",
        [(AT, 1, -2.0), (AT, 1, 18.0), (AT, 2, 0.5), (AT, 2, None)],
    )
    db = Database(database, "detection")
    wide, usual, none = (
        store_pages.RunOfVersion(model_id="m", version_id=n, at=AT, is_replay=False) for n in (1, 2, 3)
    )
    assert [store_pages.score_span(db, runs) for runs in ([wide, usual], [usual], [none])] == [
        (-2, 18), (0, 1), (0, 1),
    ]  # fmt: skip
    counts = [store_pages.score_buckets(db, run, (-2, 18)) for run in (wide, usual)]
    assert [[n for n, count in enumerate(c) if count] for c in counts] == [[0, 19], [2]]
