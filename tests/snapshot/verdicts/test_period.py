"""Verdicts read from a real database: manifests written by the real store, plans, roles and schedules."""

from __future__ import annotations

import time
from datetime import UTC, timedelta

import pytest
from tests.sample_registry import put_cycle, put_model, put_version
from tests.snapshot.manifests import FIRST, SCHEMA, STEP, Conn, Sea

from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.specs import Mode, Outcome, Role
from airflow_detection.snapshot.verdicts.kinds import Verdict, VerdictKind
from airflow_detection.snapshot.verdicts.period import verdicts
from airflow_detection.store.database import Database
from airflow_detection.store.manifests import note_missing


@pytest.fixture
def sea(database: Conn) -> Sea:
    return Sea(database)


def kinds(found: list[Verdict]) -> dict[str, VerdictKind]:
    return {f"{v.model_id}@{v.version}": v.kind for v in found}


def test_manifests_are_judged_by_what_came_before_the_window(sea: Sea) -> None:
    sea.history(38)
    healthy = sea.verdicts(36, 38)
    assert {v.kind for v in healthy} == {VerdictKind.OK}
    order = [(v.cycle_started_at, v.model_id, v.version) for v in healthy]
    assert order == sorted(order)
    assert len(healthy) == 6
    assert all(
        v.cycle_started_at.tzinfo is UTC or v.cycle_started_at.utcoffset() == timedelta() for v in healthy
    )
    assert {v.kind for v in sea.verdicts(0, 36)} == {VerdictKind.WARMING_UP}

    opened = sea.open(38)
    for version in opened.steps:
        sea.run(opened, version, 38, off=2e-4 if version.role is Role.SHADOW else 0.0)
    found = {v.version: v for v in sea.verdicts(38, 39) if v.model_id == "tracks"}
    assert (found["1"].kind, found["2"].kind) == (VerdictKind.OK, VerdictKind.SILENT_FAULT)
    assert found["2"].reasons == ("canary -1: expected 0.5, got 0.5002",)
    assert found["2"].role is Role.SHADOW


def test_the_same_outputs_on_other_inputs_are_a_fault(sea: Sea) -> None:
    sea.history(3)
    opened = sea.open(3)
    champion = opened.plan.primaries["tracks"]
    sea.run(opened, champion, 3)
    sea.conn.execute(
        "update detection.detection_model_runs r set output_digest = b.output_digest"
        " from detection.detection_model_runs b where r.version_id = %s and b.version_id = r.version_id"
        " and r.cycle_started_at = %s and b.cycle_started_at = %s",
        (champion.version_id, FIRST + 3 * STEP, FIRST + 2 * STEP),
    )
    assert kinds(sea.verdicts(3, 4))["tracks@1"] is VerdictKind.SILENT_FAULT


def test_what_left_no_result_says_why(sea: Sea) -> None:
    sea.history(2)
    opened = sea.open(2)
    tracks, shadow, spoofing = opened.steps
    report = RunReport(version=tracks, outcome=Outcome.FAILED, started_at=FIRST, error="E: broke")
    sea.store.save_failure(opened.plan.models["tracks"], tracks, opened.cycle, report)
    note_missing(Database(sea.conn, SCHEMA), opened.cycle, shadow, Outcome.SKIPPED, "no champion")
    sea.close(opened)
    found = sea.verdicts(2, 3)
    assert kinds(found) == {
        "tracks@1": VerdictKind.FAILED,
        "tracks@2": VerdictKind.SKIPPED_UPSTREAM,
        "spoofing@1": VerdictKind.DID_NOT_RUN,
    }
    assert {v.reasons for v in found} == {("E: broke",), ("no champion",), ("it left no manifest",)}
    assert spoofing.version_id in {v.version_id for v in found}
    assert all(v.kind.is_bad for v in found)


def test_a_due_cycle_that_was_never_opened_did_not_run(sea: Sea) -> None:
    sea.history(1)
    last = sea.open(3)
    sea.close(last)
    found = [v for v in sea.verdicts(0, 3) if v.cycle_started_at > FIRST]
    assert [v.kind for v in found] == [VerdictKind.DID_NOT_RUN] * 6
    assert {v.reasons for v in found} == {("the cycle was never opened",)}
    before = verdicts(Database(sea.conn, SCHEMA), start=FIRST - timedelta(hours=1), end=FIRST)
    assert before == [], "nobody ran the cycle then"
    put_cycle(sea.conn, is_enabled=False)
    assert [v.cycle_started_at for v in sea.verdicts(0, 3)] == [FIRST] * 3


def test_a_cycle_under_way_is_not_judged_yet(sea: Sea) -> None:
    opened = sea.open(0)
    sea.run(opened, opened.steps[0], 0)
    assert kinds(sea.verdicts(0, 1)) == {"tracks@1": VerdictKind.WARMING_UP}
    sea.conn.execute("update detection.detection_cycle_runs set opened_at = now() - interval '1 hour'")
    assert kinds(sea.verdicts(0, 1))["spoofing@1"] is VerdictKind.DID_NOT_RUN


def test_replays_and_models_that_are_switched_off_have_no_verdict(sea: Sea) -> None:
    sea.history(1)
    replay = sea.open(0, Mode.OVERRIDE, replay=["tracks@2"])
    (step,) = replay.steps
    assert step.is_replay
    sea.run(replay, step, 99, off=1.0)
    assert {v.kind for v in sea.verdicts(0, 1)} == {VerdictKind.WARMING_UP}
    put_model(sea.conn, "spoofing", ("tracks",), is_enabled=False)
    opened = sea.open(1)
    for version in opened.steps[:2]:
        sea.run(opened, version, 1)
    note_missing(Database(sea.conn, SCHEMA), opened.cycle, opened.steps[2], Outcome.SKIPPED, "switched off")
    sea.close(opened)
    assert set(kinds(sea.verdicts(1, 2))) == {"tracks@1", "tracks@2"}


def test_a_backfill_of_an_old_day_changes_nothing_of_today(sea: Sea) -> None:
    sea.history(38)
    today = sea.verdicts(36, 38)
    for number in range(-600, -590):
        opened = sea.open(number)
        for version in opened.steps:
            sea.run(opened, version, number + 600, off=1.0)
        sea.close(opened)
    assert sea.verdicts(36, 38) == today


def test_a_broken_registration_has_failed(sea: Sea) -> None:
    put_model(sea.conn, "lost", ("nobody",))
    put_version(sea.conn, "lost@1", Role.PRIMARY)
    opened = sea.open(0)
    sea.close(opened)
    found = next(v for v in sea.verdicts(0, 1) if v.model_id == "lost")
    assert found.kind is VerdictKind.FAILED
    assert "nobody" in found.reasons[0]


@pytest.mark.long
def test_a_day_of_twenty_versions_takes_seconds(sea: Sea) -> None:
    sea.history(1)
    sea.conn.execute(
        "insert into detection.detection_model_versions (model_id, version)"
        " select 'tracks', 'x' || n from generate_series(1, 17) n"
    )
    sea.conn.execute(
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
    found = sea.verdicts(300, 588)
    assert time.process_time() - began < 6
    assert len([v for v in found if v.kind is VerdictKind.OK]) == 288 * 20
