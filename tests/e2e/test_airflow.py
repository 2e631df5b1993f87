"""The engine in a real Airflow: backfills, replays, concurrent runs, an unreachable registry, assets."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from demo.settings import CHECKOUT
from psycopg import sql
from tests import sample_registry
from tests.e2e.airflow_instance import AirflowInstance, airflow_instance

from airflow_detection.domain.names import asset_uri_of
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Execution, Role
from airflow_detection.plan_cache import file
from airflow_detection.store import registry
from airflow_detection.store.database import Database
from airflow_detection.store.roles import assign_role, correct_roles

pytestmark = pytest.mark.e2e

MINUTE = timedelta(minutes=1)
YEARLY = "5 12 1 3 *"  # fires at fleet.AT, and not again while the tests run
CYCLES = ("fleet", "corrected", "busy", "live", "missed", "latest")
DAGS = [*(f"detection_{cycle}" for cycle in CYCLES), "consumer"]
MISSED = [datetime(2026, 3, 1, 12, minute, tzinfo=UTC) for minute in (0, 10, 20)]
"""Ticks of two cycles that nothing has run, and that are not due again while the tests run."""
IMPORT_TIMEOUT_S = 30.0
RESULTS = ("detection_model_runs", "detection_model_run_outputs", "detection_model_metrics")
CONSUMER = '''"""A Dag that follows a champion: the words dag and airflow make Airflow look into this file."""

from airflow.sdk import DAG, Asset, BaseOperator


class Noop(BaseOperator):
    def execute(self, context):
        return None


with DAG("consumer", schedule=[Asset({uri!r})], catchup=False):
    Noop(task_id="noop")
'''


class Promotion:
    """Promotion of `tracks@2`: its instant, and the last cycle before and the first one after it."""

    def __init__(self, instant: datetime) -> None:
        self.instant = instant
        self.before = (instant - timedelta(microseconds=1)).replace(second=0, microsecond=0)
        self.after = self.before + MINUTE


def register(conn: Any) -> Promotion:
    """Register four cycles; return the promotion, which comes last and is in force from now on."""
    sample_registry.put_cycle(conn, cycle_id="corrected", schedule=YEARLY)
    sample_registry.put_model(conn, "replayed", cycle_id="corrected")
    sample_registry.put_version(conn, "replayed@1", Role.PRIMARY, ids=["a"])
    sample_registry.put_version(conn, "replayed@2", ids=["a", "b"])
    sample_registry.put_cycle(conn, cycle_id="busy", schedule=YEARLY, max_active_runs=8)
    sample_registry.put_model(conn, "slow", cycle_id="busy", entrypoint="tests.e2e.slow_model:Slow")
    sample_registry.put_version(conn, "slow@1", Role.PRIMARY, ids=["a", "b"], sleep_s=1.5)
    sample_registry.put_version(conn, "slow@2", Role.SHADOW, ids=["a", "b", "c"], sleep_s=1.5)
    sample_registry.put_cycle(conn, cycle_id="live", schedule="*/5 * * * *", max_active_runs=8)
    sample_registry.put_model(conn, "lively", cycle_id="live")
    sample_registry.put_version(conn, "lively@1", Role.PRIMARY, ids=["a"])
    for cycle_id, catchup in (("missed", True), ("latest", False)):
        sample_registry.put_cycle(
            conn, cycle_id=cycle_id, schedule="0-20/10 12 1 3 *", start_date=MISSED[0], catchup=catchup,
            max_active_runs=2, execution=Execution.INLINE,
        )  # fmt: skip
        slow = {"cycle_id": cycle_id, "entrypoint": "tests.e2e.slow_model:Slow"}
        sample_registry.put_model(conn, f"slow_{cycle_id}", **slow)
        sample_registry.put_version(
            conn, f"slow_{cycle_id}@1", Role.PRIMARY, since=MISSED[0], ids=["a"], sleep_s=1.0
        )
    sample_registry.register(conn)
    sample_registry.put_version(conn, "spoofing@2", ids=["y"])
    assign_role(Database(conn, sample_registry.SCHEMA), model_id="tracks", version="2", role=Role.PRIMARY)
    query = "select max(lower(valid)) from detection.detection_model_roles where model_id = 'tracks'"
    promotion = Promotion(conn.execute(query).fetchone()[0])
    minutes = f"{promotion.before.minute},{promotion.after.minute}"
    sample_registry.put_cycle(conn, schedule=f"{minutes} * * * *")
    return promotion


@pytest.fixture(scope="module")
def instance_and_promotion(
    tmp_path_factory: pytest.TempPathFactory, server: str
) -> Iterator[tuple[AirflowInstance, Promotion]]:
    options = {"allowed_modules": "tests.sample_registry, tests.e2e", "plan_ttl": "1"}
    with airflow_instance(tmp_path_factory.mktemp("airflow"), server, **options) as instance:
        promotion = register(instance.registry)
        shutil.copy(CHECKOUT / "dags" / "detection_cycles.py", instance.dags)
        (instance.dags / "consumer.py").write_text(CONSUMER.format(uri=asset_uri_of("fleet", "tracks")))
        instance.start()
        instance.wait(lambda: instance.has_api() and instance.has_dags(*DAGS), "the start of Airflow")
        instance.api.unpause("consumer")
        yield instance, promotion


@pytest.fixture
def airflow(instance_and_promotion: tuple[AirflowInstance, Promotion]) -> AirflowInstance:
    return instance_and_promotion[0]


@pytest.fixture
def promotion(instance_and_promotion: tuple[AirflowInstance, Promotion]) -> Promotion:
    return instance_and_promotion[1]


def roles(airflow: AirflowInstance, at: datetime) -> dict[str, str]:
    """Role by `model@version` (a `!` behind a replay) of what succeeded in one cycle."""
    query = (
        "select r.model_id || '@' || v.version || case when is_replay then '!' else '' end, role::text"
        " from detection.detection_model_runs r join detection.detection_model_versions v using (version_id)"
        " where cycle_started_at = %s and outcome = 'SUCCEEDED'"
    )
    return dict(airflow.registry.execute(query, (at,)).fetchall())


def scores(airflow: AirflowInstance, label: str, at: datetime) -> list[float]:
    """Scores that a version stored for a cycle: `Echo` scores the number of outputs that it read upstream."""
    query = (
        "select score from detection.detection_model_run_outputs o"
        " join detection.detection_model_versions v using (version_id)"
        " where v.model_id || '@' || v.version = %s and cycle_started_at = %s"
    )
    return [row[0] for row in airflow.registry.execute(query, (label, at)).fetchall()]


def live_rows(airflow: AirflowInstance) -> dict[str, Any]:
    """Digest and number of the fleet's rows that are not replays, of each table of results."""
    query = sql.SQL(
        "select md5(string_agg(t::text, chr(10) order by t::text)), count(*) from detection.{} t"
        " where not is_replay and model_id in ('tracks', 'spoofing')"
    )
    return {
        table: airflow.registry.execute(query.format(sql.Identifier(table))).fetchone() for table in RESULTS
    }


def test_a_backfill_across_a_promotion_runs_what_was_champion_then(
    airflow: AirflowInstance, promotion: Promotion
) -> None:
    time.sleep(max(0.0, (promotion.after - datetime.now(UTC)).total_seconds() + 0.5))
    airflow.backfill("detection_fleet", promotion.before, promotion.after)
    airflow.api.unpause("detection_fleet")
    airflow.wait_for_runs("detection_fleet", 2)
    assert roles(airflow, promotion.before) == {
        "tracks@1": "PRIMARY",
        "tracks@2": "SHADOW",
        "spoofing@1": "PRIMARY",
    }
    assert roles(airflow, promotion.after) == {"tracks@2": "PRIMARY", "spoofing@1": "PRIMARY"}
    assert scores(airflow, "spoofing@1", promotion.before) == [2.0], "it read the two outputs of tracks@1"
    assert scores(airflow, "spoofing@1", promotion.after) == [3.0], "it read the three outputs of tracks@2"
    assert airflow.rows("select distinct run_type from dag_run where dag_id = 'detection_fleet'") == [
        ("backfill",)
    ]


def test_a_champion_is_an_asset_that_another_dag_follows(
    airflow: AirflowInstance, promotion: Promotion
) -> None:
    query = (
        "select source_task_id, r.logical_date from asset_event e join asset a on a.id = e.asset_id"
        " join dag_run r on r.dag_id = e.source_dag_id and r.run_id = e.source_run_id where a.uri = %s"
        " order by r.logical_date"
    )
    events = airflow.rows(query, asset_uri_of("fleet", "tracks"))
    assert events == [("tracks", promotion.before), ("tracks", promotion.after)]
    airflow.wait(lambda: "success" in airflow.run_states("consumer"), "the run of the Dag that follows")


@pytest.mark.long
def test_missed_cycles_are_run_in_order_and_at_most_so_many_at_once_or_the_latest_alone(
    airflow: AirflowInstance,
) -> None:
    """With `catchup`, and without."""
    query = "select logical_date, start_date, end_date from dag_run where dag_id = %s order by start_date, id"
    dags = {"detection_missed": MISSED, "detection_latest": MISSED[-1:]}
    for dag_id in dags:
        airflow.api.unpause(dag_id)
    for dag_id, due in dags.items():
        airflow.wait_for_runs(dag_id, len(due))
        runs = airflow.rows(query, dag_id)
        assert [at for at, *_ in runs] == due
        at_once = [sum(began <= start < ended for _, began, ended in runs) for _, start, _ in runs]
        assert max(at_once) == min(2, len(due))
        stored = "select cycle_started_at from detection.detection_model_runs where cycle_id = %s order by 1"
        of_cycle = airflow.registry.execute(stored, (dag_id.removeprefix("detection_"),)).fetchall()
        assert [at for (at,) in of_cycle] == due


def parsed_at(airflow: AirflowInstance) -> datetime:
    """Oldest of the times at which the cycles' Dags were parsed last."""
    query = "select min(last_parsed_time) from dag where dag_id like %s"
    oldest: datetime = airflow.rows(query, "detection%")[0][0]
    return oldest


def check_dags_survive(airflow: AirflowInstance, parses: int = 2) -> None:
    """Check after each of the next parses that no Dag is stale and that none took half the import timeout."""
    for _ in range(parses):
        last = parsed_at(airflow)
        airflow.wait(lambda: parsed_at(airflow) > last or airflow.import_errors(), "a parse")  # noqa: B023
        assert airflow.import_errors() == []
        assert airflow.has_dags(*DAGS), airflow.rows("select dag_id, is_stale from dag")
        slowest = airflow.rows("select max(last_parse_duration) from dag")[0][0]
        assert slowest < IMPORT_TIMEOUT_S / 2


def is_marked(airflow: AirflowInstance) -> bool:
    query = "select count(*) from dag_tag where name = 'last known plan'"
    return airflow.rows(query) == [(len(DAGS) - 1,)]


def versions_of_live(airflow: AirflowInstance) -> int:
    return int(airflow.rows("select count(*) from dag_version where dag_id = 'detection_live'")[0][0])


def test_a_plan_file_that_is_damaged_is_made_anew(airflow: AirflowInstance) -> None:
    path = file.path_of(Settings(state_dir=airflow.folder / "airflow" / "detection"))
    content = path.read_bytes()
    damaged = content.replace(b"lively", b"deadly")
    assert damaged != content
    path.write_bytes(damaged)
    check_dags_survive(airflow)
    assert b"lively" in path.read_bytes()
    assert b"deadly" not in path.read_bytes()


def test_dags_survive_while_the_registry_is_unreachable_and_while_it_is_silent(
    airflow: AirflowInstance,
) -> None:
    versions = versions_of_live(airflow)
    try:
        airflow.registry_proxy.refuse()
        airflow.api.unpause("detection_live")  # which starts the newest cycle of its schedule
        check_dags_survive(airflow)
        assert is_marked(airflow)
        tries = "select state, try_number from task_instance where dag_id = %s and task_id = 'open_cycle'"
        airflow.wait(
            lambda: ("up_for_retry", 1) in airflow.rows(tries, "detection_live"),
            "a failure that will be retried",
        )
        airflow.registry_proxy.fall_silent()
        check_dags_survive(airflow)
        assert airflow.registry_proxy.silenced > 0
        assert is_marked(airflow)
        assert versions_of_live(airflow) <= versions + 1, "the mark makes one version, further parses none"
    finally:
        airflow.registry_proxy.open()


def test_a_replay_runs_only_what_is_named_and_overwrites_nothing_live(
    airflow: AirflowInstance, promotion: Promotion
) -> None:
    before = live_rows(airflow)
    conf = {"mode": "override", "replay": ["tracks@2", "spoofing@2"]}
    options = ("--reprocess-behavior", "completed", "--dag-run-conf", json.dumps(conf))
    airflow.backfill("detection_fleet", promotion.before, promotion.after, *options)
    airflow.wait(lambda: len(roles(airflow, promotion.after)) == 4, "the replay")
    airflow.wait_for_runs("detection_fleet", 2)
    assert live_rows(airflow) == before
    for at, score in ((promotion.before, 2.0), (promotion.after, 3.0)):
        replays = {label: role for label, role in roles(airflow, at).items() if label.endswith("!")}
        assert replays == {"tracks@2!": "SHADOW", "spoofing@2!": "SHADOW"}
        assert scores(airflow, "spoofing@2", at) == [score], "it read the stored champion of that cycle"
        assert airflow.task_states("detection_fleet", at) == {
            "open_cycle": "success",
            "tracks": "skipped",
            "spoofing": "skipped",
            "other_versions": "success",
            "close_cycle": "success",
        }


def test_as_run_repeats_the_plan_that_was_recorded(airflow: AirflowInstance) -> None:
    reason = "the wrong one was in force"
    correct_roles(
        Database(airflow.registry, sample_registry.SCHEMA),
        label="replayed@2",
        role=Role.PRIMARY,
        since=sample_registry.SINCE,
        reason=reason,
    )
    known_at = registry.clock(Database(airflow.registry, sample_registry.SCHEMA)).isoformat()
    airflow.backfill_tick("detection_corrected", sample_registry.AT, {"known_at": known_at})
    airflow.api.unpause("detection_corrected")
    airflow.wait_for_runs("detection_corrected", 1)
    assert roles(airflow, sample_registry.AT) == {"replayed@2": "PRIMARY"}
    first = attempts(airflow)
    airflow.backfill_tick("detection_corrected", sample_registry.AT, {"mode": "as_run"})
    airflow.wait(lambda: attempts(airflow) != first, "the second run")
    airflow.wait_for_runs("detection_corrected", 1)
    assert roles(airflow, sample_registry.AT) == {"replayed@2": "PRIMARY"}
    assert len(plans(airflow)) == 1


def attempts(airflow: AirflowInstance) -> list[tuple[Any, ...]]:
    query = (
        "select version_id, attempt from detection.detection_model_runs"
        " where cycle_id = 'corrected' order by 1"
    )
    return airflow.registry.execute(query).fetchall()


def plans(airflow: AirflowInstance) -> set[str]:
    query = "select plan_digest, mode from detection.detection_cycle_runs where cycle_id = 'corrected'"
    recorded = airflow.registry.execute(query).fetchall()
    assert {mode for _, mode in recorded} == {"as_of", "as_run"}
    return {digest for digest, _ in recorded}


def test_live_and_backfill_runs_of_one_cycle_at_once_leave_one_result_each(airflow: AirflowInstance) -> None:
    dag_id = "detection_busy"
    airflow.backfill_tick(dag_id, sample_registry.AT)
    for _ in range(3):
        airflow.trigger(dag_id, run_after=sample_registry.AT)
    airflow.api.unpause(dag_id)
    airflow.wait_for_runs(dag_id, 4)
    overlaps = (
        "select count(*) from task_instance a join task_instance b using (dag_id, task_id)"
        " where dag_id = %s and task_id in ('slow', 'slow__2') and a.run_id < b.run_id"
        " and a.start_date < b.end_date and b.start_date < a.end_date"
    )
    assert airflow.rows(overlaps, dag_id)[0][0] > 0, "no two of them have run at once"
    query = (
        "select v.version, role::text, outcome::text, output_count,"
        " (select count(*) from detection.detection_model_run_outputs o"
        "  where (o.cycle_started_at, o.version_id) = (r.cycle_started_at, r.version_id))"
        " from detection.detection_model_runs r join detection.detection_model_versions v using (version_id)"
        " where cycle_id = 'busy' order by 1"
    )
    assert airflow.registry.execute(query).fetchall() == [
        ("1", "PRIMARY", "SUCCEEDED", 2, 2),
        ("2", "SHADOW", "SUCCEEDED", 3, 3),
    ]


def test_cycles_started_without_the_registry_and_after_it_came_back_succeed(airflow: AirflowInstance) -> None:
    second_try = (
        "select 1 from task_instance where dag_id = %s and task_id = 'open_cycle' and try_number > 1"
        " and state = 'success'"
    )
    dag_id = "detection_live"
    airflow.wait(lambda: airflow.rows(second_try, dag_id), "the second try of the cycle started without it")
    airflow.trigger(dag_id)
    airflow.wait(lambda: set(airflow.run_states(dag_id)) == {"success"}, "the end of all runs")
    assert len(airflow.run_states(dag_id)) >= 2
    airflow.wait(lambda: not airflow.rows("select 1 from dag_tag where name = 'last known plan'"), "a parse")
