"""The watch over a promotion, on stored cycles in a real database."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.snapshot.manifests import SCHEMA, ManifestHistory

from airflow_detection.cycle import planning
from airflow_detection.domain.specs import Mode, Role
from airflow_detection.promotion.watch import WATCHER, look
from airflow_detection.store import promotions, roles
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.create import ensure_cycle_months
from airflow_detection.store.promotions import Promotion, State

HOUR = timedelta(hours=1)


class Watched:
    """`tracks@2` in force in place of `tracks@1`, and cycles that run after that."""

    def __init__(self, conn: Any) -> None:
        self.history = ManifestHistory(conn)
        self.db = Database(conn, SCHEMA)
        self.history.add_cycles(20)
        asked = promotions.ask(self.db, "tracks@2", actor="ana", watch=HOUR)
        promotions.record(self.db, asked.promotion_id, State.JUDGED, evidence={})
        self.promotion = promotions.put_in_force(self.db, asked.promotion_id, actor="ben")
        self.since = self.promotion.since(State.IN_FORCE)
        ensure_cycle_months(self.db, datetime.now(UTC))

    def policy(self, **options: Any) -> None:
        self.db.conn.execute("update detection.detection_models set promotion = %s", [json.dumps(options)])

    def run(self, number: int, *, is_wrong: bool = False, is_missing: bool = False) -> None:
        time.sleep(0.01)  # the next cycle
        at = datetime.now(UTC)
        opened = planning.open_cycle(self.db, "fleet", at, mode=Mode.AS_OF)
        for version in opened.steps:
            off = 0.4 if is_wrong and version.label == "tracks@2" else 0.0
            if not (is_missing and version.label == "tracks@2"):
                self.history.run(opened, version, number, off=off)
        self.history.close(opened)

    def look(self, after: timedelta = timedelta(minutes=1)) -> Promotion:
        assert self.since is not None
        now = max(datetime.now(UTC), self.since + after)
        return look(self.db, self.promotion.promotion_id, now=now, use_model_registry=True).promotion


@pytest.fixture
def watched(database: Any) -> Watched:
    return Watched(database)


def test_two_bad_cycles_in_a_row_roll_back_with_the_figures(watched: Watched) -> None:
    watched.run(1, is_wrong=True)
    assert watched.look().state is State.IN_FORCE, "one is not enough"
    watched.run(2, is_wrong=False)
    watched.run(3, is_wrong=True)
    assert watched.look().state is State.IN_FORCE, "they are not successive"
    watched.run(4, is_wrong=True)
    rolled_back = watched.look()
    last = rolled_back.states[-1]
    assert (last.state, last.actor) == (State.ROLLED_BACK, WATCHER)
    assert last.reason.count("SILENT_FAULT") == 2
    (kept,) = promotions.promotions(watched.db, has_evidence=True)
    assert [v["kind"] for v in (kept.states[-1].evidence or {})["verdicts"]] == ["SILENT_FAULT"] * 2
    assert promotions.champion_id(watched.db, "tracks") == watched.promotion.champion_id
    assert watched.look().state is State.ROLLED_BACK


def test_the_policy_names_the_verdicts_that_roll_back_and_how_many(watched: Watched) -> None:
    watched.policy(rollback_on=["DID_NOT_RUN"], rollback_after=3)
    for number in (1, 2, 3):
        watched.run(number, is_wrong=True)
    assert watched.look().state is State.IN_FORCE, "SILENT_FAULT is not among them"
    for number in (4, 5):
        watched.run(number, is_missing=True)
    assert watched.look().state is State.IN_FORCE, "two are not enough"
    watched.run(6, is_missing=True)
    last = watched.look().states[-1]
    assert (last.state, last.reason.count("DID_NOT_RUN")) == (State.ROLLED_BACK, 3)


def test_by_default_a_version_that_was_not_run_stays(watched: Watched) -> None:
    for number in range(3):
        watched.run(number, is_missing=True)
    assert watched.look().state is State.IN_FORCE
    watched.policy(rollback_on=["DID_NOT_RUN"], rollback_after=1)
    assert watched.look().state is State.ROLLED_BACK, "the policy is that of the moment"


def test_a_wrong_policy_does_not_end_the_watch(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.policy(rollback_on=["NOISE"])
    for number in (1, 2):
        watched.run(number, is_wrong=True)
    assert watched.look().state is State.ROLLED_BACK
    assert "model tracks is watched by the default policy: promotion: rollback_on: must be" in caplog.text


def test_a_watch_that_ends_well_keeps_the_version(watched: Watched) -> None:
    for number in range(3):
        watched.run(number, is_wrong=False)
    assert watched.look().state is State.IN_FORCE
    kept = watched.look(HOUR)
    assert (kept.state, kept.states[-1].actor) == (State.KEPT, WATCHER)
    assert kept.states[-1].reason == "3 cycles were judged"
    assert promotions.champion_id(watched.db, "tracks") == watched.promotion.version_id


def test_another_champion_ends_the_watch_without_a_rollback(watched: Watched) -> None:
    watched.run(1, is_wrong=True)
    watched.run(2, is_wrong=True)
    roles.assign_role(watched.db, model_id="tracks", version="1", role=Role.PRIMARY)
    assert watched.look().state is State.SUPERSEDED
