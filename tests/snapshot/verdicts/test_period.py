"""Verdicts read from a real database: manifests written by the real store, plans, roles and schedules."""

from __future__ import annotations

import time
from datetime import UTC, timedelta

import pytest
from tests.sample_registry import put_cycle, put_model, put_version
from tests.snapshot.manifests import FIRST, SCHEMA, STEP, Conn, ManifestHistory

from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.specs import Mode, Outcome, Role
from airflow_detection.snapshot.verdicts.kinds import Verdict, VerdictKind
from airflow_detection.snapshot.verdicts.period import verdicts
from airflow_detection.store.database import Database
from airflow_detection.store.manifests import record_missing_run


@pytest.fixture
def history(database: Conn) -> ManifestHistory:
    return ManifestHistory(database)


def kinds(judged: list[Verdict]) -> dict[str, VerdictKind]:
    return {f"{v.model_id}@{v.version}": v.kind for v in judged}


def test_manifests_are_judged_by_what_came_before_the_window(history: ManifestHistory) -> None:
    history.add_cycles(38)
    healthy = history.verdicts(36, 38)
    assert {v.kind for v in healthy} == {VerdictKind.OK}
    order = [(v.cycle_started_at, v.model_id, v.version) for v in healthy]
    assert order == sorted(order)
    assert len(healthy) == 6
    assert all(
        v.cycle_started_at.tzinfo is UTC or v.cycle_started_at.utcoffset() == timedelta() for v in healthy
    )
    assert {v.kind for v in history.verdicts(0, 36)} == {VerdictKind.WARMING_UP}

    opened = history.open(38)
    for version in opened.steps:
        history.run(opened, version, 38, off=2e-4 if version.role is Role.SHADOW else 0.0)
    tracks = {v.version: v for v in history.verdicts(38, 39) if v.model_id == "tracks"}
    assert (tracks["1"].kind, tracks["2"].kind) == (VerdictKind.OK, VerdictKind.SILENT_FAULT)
    assert tracks["2"].reasons == ("canary -1: expected 0.5, got 0.5002",)
    assert tracks["2"].role is Role.SHADOW


def test_the_same_outputs_on_other_inputs_are_a_fault(history: ManifestHistory) -> None:
    history.add_cycles(3)
    opened = history.open(3)
    champion = opened.plan.primaries["tracks"]
    history.run(opened, champion, 3)
    history.conn.execute(
        "update detection.detection_model_runs r set output_digest = b.output_digest"
        " from detection.detection_model_runs b where r.version_id = %s and b.version_id = r.version_id"
        " and r.cycle_started_at = %s and b.cycle_started_at = %s",
        (champion.version_id, FIRST + 3 * STEP, FIRST + 2 * STEP),
    )
    assert kinds(history.verdicts(3, 4))["tracks@1"] is VerdictKind.SILENT_FAULT


def test_a_verdict_rests_on_the_lookback_of_its_time(history: ManifestHistory) -> None:
    history.add_cycles(38)
    history.conn.execute(
        "update detection.detection_model_runs set newest_input_at = cycle_started_at - interval '50 minutes'"
        " where cycle_started_at = %s",
        (FIRST + 37 * STEP,),
    )
    before = history.verdicts(36, 38)
    assert {v.kind for v in before} == {VerdictKind.OK, VerdictKind.INPUT_DEGRADED}
    put_cycle(history.conn, lookback=timedelta(days=300))
    assert history.verdicts(36, 38) == before


def test_a_version_without_a_result_has_the_reason(history: ManifestHistory) -> None:
    history.add_cycles(2)
    opened = history.open(2)
    tracks, shadow, spoofing = opened.steps
    report = RunReport(version=tracks, outcome=Outcome.FAILED, started_at=FIRST, error="E: broke")
    history.store.save_failure(opened.plan.models["tracks"], tracks, opened.cycle, report)
    record_missing_run(Database(history.conn, SCHEMA), opened.cycle, shadow, Outcome.SKIPPED, "no champion")
    history.close(opened)
    judged = history.verdicts(2, 3)
    assert kinds(judged) == {
        "tracks@1": VerdictKind.FAILED,
        "tracks@2": VerdictKind.SKIPPED_UPSTREAM,
        "spoofing@1": VerdictKind.DID_NOT_RUN,
    }
    assert {v.reasons for v in judged} == {("E: broke",), ("no champion",), ("it left no manifest",)}
    assert spoofing.version_id in {v.version_id for v in judged}
    assert all(v.kind.is_bad for v in judged)


def test_a_due_cycle_that_was_never_opened_did_not_run(history: ManifestHistory) -> None:
    history.add_cycles(1)
    last = history.open(3)
    history.close(last)
    judged = [v for v in history.verdicts(0, 3) if v.cycle_started_at > FIRST]
    assert [v.kind for v in judged] == [VerdictKind.DID_NOT_RUN] * 6
    assert {v.reasons for v in judged} == {("the cycle was never opened",)}
    before = verdicts(
        Database(history.conn, SCHEMA),
        start=FIRST - timedelta(hours=1),
        end=FIRST,
        use_model_registry=True,
    )
    assert before == [], "nobody ran the cycle then"
    put_cycle(history.conn, is_enabled=False)
    assert [v.cycle_started_at for v in history.verdicts(0, 3)] == [FIRST] * 3


def test_a_cycle_with_a_legacy_path_expects_its_versions_with_the_registry_alone(
    history: ManifestHistory,
) -> None:
    history.add_cycles(1)
    history.close(history.open(3))
    history.conn.execute("update detection.detection_cycles set legacy_entrypoint = 'legacy.path:run'")
    with_registry = history.verdicts(1, 3, use_model_registry=True)
    assert [v.kind for v in with_registry] == [VerdictKind.DID_NOT_RUN] * 6
    assert history.verdicts(1, 3, use_model_registry=False) == []
    opened = history.verdicts(0, 1, use_model_registry=True)
    assert len(opened) == 3
    assert history.verdicts(0, 1, use_model_registry=False) == opened, "a cycle that has a plan ran it"


def test_a_cycle_under_way_is_not_judged_yet(history: ManifestHistory) -> None:
    opened = history.open(0)
    history.run(opened, opened.steps[0], 0)
    assert kinds(history.verdicts(0, 1)) == {"tracks@1": VerdictKind.WARMING_UP}
    history.conn.execute("update detection.detection_cycle_runs set opened_at = now() - interval '1 hour'")
    assert kinds(history.verdicts(0, 1))["spoofing@1"] is VerdictKind.DID_NOT_RUN


def test_replays_and_models_that_are_switched_off_have_no_verdict(history: ManifestHistory) -> None:
    history.add_cycles(1)
    replay = history.open(0, Mode.OVERRIDE, replay=["tracks@2"])
    (step,) = replay.steps
    assert step.is_replay
    history.run(replay, step, 99, off=1.0)
    assert {v.kind for v in history.verdicts(0, 1)} == {VerdictKind.WARMING_UP}
    put_model(history.conn, "spoofing", ("tracks",), is_enabled=False)
    opened = history.open(1)
    for version in opened.steps[:2]:
        history.run(opened, version, 1)
    record_missing_run(
        Database(history.conn, SCHEMA), opened.cycle, opened.steps[2], Outcome.SKIPPED, "switched off"
    )
    history.close(opened)
    assert set(kinds(history.verdicts(1, 2))) == {"tracks@1", "tracks@2"}


def test_a_backfill_of_an_old_day_changes_nothing_of_today(history: ManifestHistory) -> None:
    history.add_cycles(38)
    today = history.verdicts(36, 38)
    for number in range(-600, -590):
        opened = history.open(number)
        for version in opened.steps:
            history.run(opened, version, number + 600, off=1.0)
        history.close(opened)
    assert history.verdicts(36, 38) == today


def test_a_run_between_two_ticks_is_judged_and_is_no_history_of_the_others(history: ManifestHistory) -> None:
    """As manual runs were before they were refused; what ran by another schedule stays history."""
    history.add_cycles(38)
    for number in (3.5, 10.5, 20.5):
        opened = history.open(number)
        for version in opened.steps:
            history.run(opened, version, 100 + int(number))
        history.close(opened)

    def counted() -> set[object]:
        at = FIRST + 37 * STEP
        return {v.numbers["history"] for v in history.verdicts(37, 38) if v.cycle_started_at == at}

    assert counted() == {37}
    assert {v.kind for v in history.verdicts(20, 21) if v.cycle_started_at.second} == {VerdictKind.WARMING_UP}
    put_cycle(history.conn, schedule="2-59/5 * * * *")
    assert counted() == {40}, "no run lies near a tick of the new schedule"


def test_a_broken_registration_has_failed(history: ManifestHistory) -> None:
    put_model(history.conn, "lost", ("nobody",))
    put_version(history.conn, "lost@1", Role.PRIMARY)
    opened = history.open(0)
    history.close(opened)
    verdict = next(v for v in history.verdicts(0, 1) if v.model_id == "lost")
    assert verdict.kind is VerdictKind.FAILED
    assert "nobody" in verdict.reasons[0]


@pytest.mark.long
def test_a_day_of_twenty_versions_takes_seconds(history: ManifestHistory) -> None:
    history.add_cycles(1)
    history.conn.execute(
        "insert into detection.detection_model_versions (model_id, version)"
        " select 'tracks', 'x' || n from generate_series(1, 17) n"
    )
    history.conn.execute(
        "insert into detection.detection_model_runs (cycle_id, cycle_started_at, version_id, model_id, role,"
        " outcome, attempt, started_at, input_count, input_digest, newest_input_at, output_count,"
        " output_digest, score_counts, canaries, features)"
        " select cycle_id, cycle_started_at + n * interval '5 min', v.version_id, v.model_id, 'SHADOW',"
        " outcome, attempt, r.started_at, input_count + n %% 7, n::text,"
        " newest_input_at + n * interval '5 min', output_count, n::text, score_counts, canaries, features"
        " from (select * from detection.detection_model_runs limit 1) r,"
        " detection.detection_model_versions v, generate_series(1, 600) n".replace("%%", "%")
    )
    began = time.process_time()  # the tests share their cores
    judged = history.verdicts(300, 588)
    assert time.process_time() - began < 6
    assert len([v for v in judged if v.kind is VerdictKind.OK]) == 288 * 20
