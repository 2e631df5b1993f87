"""Promotions: states that follow each other, one champion at any moment, and the way back."""

from __future__ import annotations

import random
import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from tests import sample_registry
from tests.sample_registry import SCHEMA

from airflow_detection.domain.specs import Role
from airflow_detection.errors import DetectionError, PromotionError, RegistrationError
from airflow_detection.store import promotions, roles
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.promotions import State

Connection = psycopg.Connection[tuple[Any, ...]]
EVIDENCE = {"e_value": 31.5, "pairs": 12}


@pytest.fixture
def db(database: Connection) -> Database:
    """A registry in which tracks@1 is PRIMARY, tracks@2 a SHADOW, and tracks@3 nothing."""
    sample_registry.register(database)
    sample_registry.put_version(database, "tracks@3", ids=["z"])
    return Database(database, SCHEMA)


def open_roles(db: Database, model_id: str = "tracks") -> dict[str, str]:
    """Role by version, now."""
    query = (
        "select version, role::text from detection.detection_model_roles r"
        " join detection.detection_model_versions v using (version_id)"
        " where r.model_id = %s and superseded_at is null and upper_inf(valid)"
    )
    return dict(db.conn.execute(query, [model_id]).fetchall())


def promoted(db: Database, label: str = "tracks@2") -> promotions.Promotion:
    asked = promotions.ask(db, label, actor="ana", reason="better", watch=timedelta(hours=1))
    promotions.record(db, asked.promotion_id, State.JUDGED, actor="ana", evidence=EVIDENCE)
    return promotions.put_in_force(db, asked.promotion_id, actor="ben", reason="agreed")


def test_a_promotion_swaps_the_roles_and_says_who_and_why(db: Database) -> None:
    promotion = promoted(db)
    assert open_roles(db) == {"1": "SHADOW", "2": "PRIMARY"}
    assert [(c.state, c.actor) for c in promotion.states] == [
        (State.REQUESTED, "ana"),
        (State.JUDGED, "ana"),
        (State.APPROVED, "ben"),
        (State.IN_FORCE, "ben"),
    ]
    assert (promotion.champion, promotion.role_before, promotion.watch) == (
        "1",
        Role.SHADOW,
        timedelta(hours=1),
    )
    (kept,) = promotions.promotions(db, model_id="tracks", has_evidence=True)
    judged = kept.states[1]
    assert (judged.evidence, judged.evidence_digest) == (EVIDENCE, promotions.digest_of(EVIDENCE))
    rows = db.conn.execute(
        "select actor, reason, promotion_id from detection.detection_model_roles"
        " where promotion_id is not null order by role_id"
    ).fetchall()
    assert rows == [("ben", "agreed", promotion.promotion_id)] * 2


def test_a_rollback_gives_both_their_roles_back_once(db: Database) -> None:
    promotion = promoted(db)
    back = promotions.roll_back(db, "tracks", actor="watch", reason="silent twice", evidence=EVIDENCE)
    assert back is not None
    assert (back.promotion_id, back.state) == (promotion.promotion_id, State.ROLLED_BACK)
    assert open_roles(db) == {"1": "PRIMARY", "2": "SHADOW"}
    assert promotions.roll_back(db, "tracks", reason="again") is None
    assert open_roles(db) == {"1": "PRIMARY", "2": "SHADOW"}


def test_a_version_without_a_role_has_none_again_after_its_rollback(db: Database) -> None:
    promoted(db, "tracks@3")
    assert open_roles(db) == {"1": "SHADOW", "2": "SHADOW", "3": "PRIMARY"}
    promotions.roll_back(db, "tracks", reason="wrong")
    assert open_roles(db) == {"1": "PRIMARY", "2": "SHADOW"}


def test_a_kept_promotion_can_be_rolled_back_and_then_be_asked_for_again(db: Database) -> None:
    promotion = promoted(db)
    assert promotions.end_watch(db, promotion.promotion_id, actor="watch").state is State.KEPT
    assert promotions.end_watch(db, promotion.promotion_id, actor="watch").state is State.KEPT
    back = promotions.roll_back(db, "tracks", reason="wrong after all")
    assert back is not None
    assert back.state is State.ROLLED_BACK
    assert promotions.end_watch(db, promotion.promotion_id).state is State.ROLLED_BACK
    assert promoted(db).promotion_id != promotion.promotion_id


def test_what_cannot_be_promoted_is_refused_with_the_reason(db: Database) -> None:
    with pytest.raises(RegistrationError, match="'tracks@9' is not registered"):
        promotions.ask(db, "tracks@9")
    with pytest.raises(PromotionError, match="tracks@1 is PRIMARY already"):
        promotions.ask(db, "tracks@1")
    asked = promotions.ask(db, "tracks@2")
    with pytest.raises(
        PromotionError, match=rf"promotion {asked.promotion_id} of tracks@2 is REQUESTED since"
    ):
        promotions.ask(db, "tracks@3")
    with pytest.raises(RegistrationError, match="is REQUESTED and cannot become APPROVED"):
        promotions.put_in_force(db, asked.promotion_id)
    promotions.record(db, asked.promotion_id, State.WITHDRAWN, reason="a mistake")
    with pytest.raises(RegistrationError, match="is WITHDRAWN and cannot become JUDGED"):
        promotions.record(db, asked.promotion_id, State.JUDGED)
    with pytest.raises(PromotionError, match="cannot become IN_FORCE without a change of roles"):
        promotions.record(db, asked.promotion_id, State.IN_FORCE)
    with pytest.raises(PromotionError, match="there is no promotion 77"):
        promotions.promotion(db, 77)
    assert open_roles(db) == {"1": "PRIMARY", "2": "SHADOW"}


def test_a_request_that_nobody_waits_for_any_more_blocks_no_other(db: Database) -> None:
    short = promotions.ask(db, "tracks@2", answer_within=timedelta(milliseconds=1))
    first = promotions.ask(db, "tracks@2", source="run 1", answer_within=timedelta(days=1))
    again = promotions.ask(db, "tracks@2", source="run 1", answer_within=timedelta(days=1))
    states = [promotions.promotion(db, p.promotion_id).state for p in (short, first, again)]
    assert states == [State.TIMED_OUT, State.WITHDRAWN, State.REQUESTED]
    with pytest.raises(PromotionError, match=f"promotion {again.promotion_id} of tracks@2 is REQUESTED"):
        promotions.ask(db, "tracks@3", source="run 2")
    assert [p.promotion_id for p in promotions.promotions(db, source="run 1")] == [
        again.promotion_id,
        first.promotion_id,
    ]


def test_a_champion_that_changed_meanwhile_stops_the_promotion(db: Database) -> None:
    asked = promotions.ask(db, "tracks@2")
    promotions.record(db, asked.promotion_id, State.JUDGED, evidence=EVIDENCE)
    roles.assign_role(db, model_id="tracks", version="3", role=Role.PRIMARY)
    with pytest.raises(PromotionError, match="was asked for when 1 was PRIMARY: now it is 3"):
        promotions.put_in_force(db, asked.promotion_id)
    assert promotions.promotion(db, asked.promotion_id).state is State.JUDGED
    with pytest.raises(PromotionError, match="tracks@3 is PRIMARY, and not by a promotion"):
        promotions.roll_back(db, "tracks", reason="no")


def test_another_champion_ends_the_watch(db: Database) -> None:
    promotion = promoted(db)
    roles.assign_role(db, model_id="tracks", version="3", role=Role.PRIMARY)
    assert promotions.end_watch(db, promotion.promotion_id).state is State.SUPERSEDED


@pytest.mark.parametrize(
    "statement",
    [
        "update detection.detection_promotions set reason = 'x'",
        "delete from detection.detection_promotions",
        "truncate detection.detection_promotions cascade",
        "update detection.detection_promotion_states set actor = 'x'",
        "delete from detection.detection_promotion_states",
        "truncate detection.detection_promotion_states",
        "update detection.detection_model_roles set promotion_id = null",
    ],
)
def test_nothing_of_it_can_be_changed(db: Database, statement: str) -> None:
    promoted(db)
    with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
        db.conn.execute(statement.encode())


def test_the_database_itself_refuses_a_second_one_and_a_state_out_of_order(db: Database) -> None:
    asked = promotions.ask(db, "tracks@2")
    with pytest.raises(psycopg.errors.RestrictViolation, match="is under way"):
        db.conn.execute("insert into detection.detection_promotions (model_id, version_id, requested_by)"
                        " select model_id, version_id, 'x' from detection.detection_model_versions"
                        " where model_id = 'tracks' and version = '3'")  # fmt: skip
    with pytest.raises(psycopg.errors.RestrictViolation, match="is REQUESTED and cannot become KEPT"):
        db.conn.execute("insert into detection.detection_promotion_states (promotion_id, state, actor)"
                        " values (%s, 'KEPT', 'x')", [asked.promotion_id])  # fmt: skip


CONNECTIONS = 8


@pytest.mark.parametrize("rounds", [10, pytest.param(1000, marks=pytest.mark.long)])
def test_promotions_rollbacks_and_corrections_at_once_leave_one_champion_and_one_end(
    db: Database, dsn: str, rounds: int
) -> None:
    failures: list[BaseException] = []
    barrier = threading.Barrier(CONNECTIONS)

    def work(worker: int) -> None:
        choice = random.Random(worker)
        with connect(dsn) as conn:
            mine = Database(conn, SCHEMA)
            for _ in range(rounds):
                barrier.wait(60)
                try:
                    _one_change(mine, choice)
                except DetectionError:
                    continue  # another one was first
                except BaseException as error:
                    failures.append(error)
                    barrier.abort()
                    raise

    threads = [threading.Thread(target=work, args=(n,)) for n in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert failures == []
    everything = promotions.promotions(db, model_id="tracks", limit=100_000)
    assert len(everything) >= rounds / 10
    assert sum(p.state.is_under_way for p in everything) <= 1
    ends = [
        [c.state for c in p.states if not c.state.is_under_way and c.state is not State.KEPT]
        for p in everything
    ]
    assert max(map(len, ends)) <= 1
    gaps = db.conn.execute(
        "select count(*) from (select valid, lead(lower(valid)) over (order by lower(valid)) as next"
        " from detection.detection_model_roles where model_id = 'tracks' and role = 'PRIMARY'"
        " and superseded_at is null) as primaries where upper(valid) is distinct from next"
    ).fetchone()
    assert gaps == (0,), "never two champions, never none"


def _one_change(db: Database, choice: random.Random) -> None:
    version = choice.choice("123")
    match choice.randrange(5):
        case 0 | 1:
            promoted(db, f"tracks@{version}")
        case 2:
            promotions.roll_back(db, "tracks", reason="at once")
        case 3:
            for promotion in promotions.promotions(db, model_id="tracks", is_under_way=True):
                promotions.end_watch(db, promotion.promotion_id)
                promotions.record(db, promotion.promotion_id, State.WITHDRAWN)
        case _:
            since = db.conn.execute("select clock_timestamp() - interval '1 ms'").fetchone()
            assert since is not None
            roles.correct_roles(
                db, label=f"tracks@{version}", role=Role.PRIMARY, since=since[0], reason="at once"
            )
