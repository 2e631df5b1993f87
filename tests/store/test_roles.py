"""The history of roles, and corrections of it, beside an oracle in plain Python."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from airflow_detection.domain.specs import CycleSpec, Mode, ModelSpec, Role
from airflow_detection.engine.plan import build_plan
from airflow_detection.errors import PlanError, RegistrationError
from airflow_detection.store import cycle_runs, registry, roles
from airflow_detection.store.database import Database
from airflow_detection.store.roles import correct_roles

Connection = psycopg.Connection[tuple[Any, ...]]
SCHEMA = "detection"
START = datetime(2020, 1, 1, tzinfo=UTC)
SINCE = datetime(2024, 1, 1, tzinfo=UTC)
VERSIONS = ("1", "2", "3")
ROLES = (Role.PRIMARY, Role.SHADOW, Role.CHALLENGER)
NUMBERS = itertools.count()
Holders = dict[str, Role]


@pytest.fixture
def sea(database: Connection) -> Connection:
    """A cycle with model `a`: champion 1 since 2024, 2 and 3 without a role."""
    put_cycle(database, "sea")
    put_model(database, "sea", "a")
    give(database, "a@1", Role.PRIMARY, SINCE)
    return database


def put_cycle(conn: Connection, cycle_id: str) -> None:
    spec = CycleSpec(cycle_id=cycle_id, schedule="* * * * *", lookback=timedelta(hours=1), start_date=START)
    registry.put_cycle(Database(conn, SCHEMA), spec)


def put_model(conn: Connection, cycle_id: str, model_id: str, *depends_on: str) -> None:
    spec = ModelSpec(model_id=model_id, cycle_id=cycle_id, entrypoint="m:M", depends_on=depends_on)
    registry.put_model(Database(conn, SCHEMA), spec)
    for version in VERSIONS:
        registry.put_version(Database(conn, SCHEMA), model_id=model_id, version=version, params={})


def give(conn: Connection, label: str, role: Role | None, since: datetime | None = None) -> bool:
    model_id, _, version = label.partition("@")
    return roles.assign_role(
        Database(conn, SCHEMA), model_id=model_id, version=version, role=role, since=since
    )


def correct(conn: Connection, label: str, role: Role | None, *span: datetime | None) -> bool:
    since, until = (*span, None)[:2]
    assert since is not None
    return correct_roles(
        Database(conn, SCHEMA),
        label=label,
        role=role,
        since=since,
        until=until,
        actor="ana",
        reason="was wrong",
    )


def holders(
    conn: Connection, at: datetime, known_at: datetime | None = None, cycle_id: str = "sea"
) -> Holders:
    specs = registry.models_at(Database(conn, SCHEMA), cycle_id, at, known_at)
    return {v.version: v.role for spec in specs for v in spec.versions}


DAY = timedelta(days=1)


def test_a_correction_shows_only_to_those_who_ask_what_is_known_since(sea: Connection) -> None:
    before = registry.clock(Database(sea, SCHEMA))
    assert correct(sea, "a@2", Role.PRIMARY, SINCE + DAY, SINCE + 2 * DAY)
    after = registry.clock(Database(sea, SCHEMA))
    old, new = {"1": Role.PRIMARY}, {"2": Role.PRIMARY}
    for at, corrected in ((0, old), (1, new), (1.9, new), (2, old), (3, old)):
        instant = SINCE + at * DAY
        assert holders(sea, instant) == old
        assert holders(sea, instant, before) == old
        assert holders(sea, instant, after) == corrected
    assert holders(sea, after) == old, "what holds now was not corrected"


def test_both_the_wrong_row_and_the_correction_stay(sea: Connection) -> None:
    correct(sea, "a@2", Role.PRIMARY, SINCE + DAY, SINCE + 2 * DAY)
    rows = sea.execute(
        "select version_id, superseded_at is null, is_correction, actor, reason"
        " from detection.detection_model_roles order by role_id"
    ).fetchall()
    first, second = (v.version_id for v in registry.versions(Database(sea, SCHEMA))[:2])
    assert rows[0][:3] == (first, False, False)
    made = [(first, True, True, "ana", "was wrong")] * 2 + [(second, True, True, "ana", "was wrong")]
    assert rows[1:] == made


def test_a_correction_without_an_end_holds_from_now_on_too(sea: Connection) -> None:
    assert correct(sea, "a@2", Role.PRIMARY, SINCE)
    assert holders(sea, registry.clock(Database(sea, SCHEMA))) == {"2": Role.PRIMARY}
    assert give(sea, "a@1", Role.PRIMARY), "and the next promotion ends it"
    assert holders(sea, registry.clock(Database(sea, SCHEMA))) == {"1": Role.PRIMARY}


def test_a_role_that_was_never_held_is_taken_back(sea: Connection) -> None:
    assert correct(sea, "a@1", None, SINCE - DAY, SINCE + DAY)
    now = registry.clock(Database(sea, SCHEMA))
    assert holders(sea, SINCE, now) == {}
    assert holders(sea, SINCE + DAY, now) == {"1": Role.PRIMARY}
    assert holders(sea, SINCE) == {"1": Role.PRIMARY}


def test_the_same_correction_again_changes_nothing(sea: Connection) -> None:
    assert not correct(sea, "a@1", Role.PRIMARY, SINCE, SINCE + DAY)
    assert correct(sea, "a@2", Role.SHADOW, SINCE, SINCE + DAY)
    assert not correct(sea, "a@2", Role.SHADOW, SINCE, SINCE + DAY)
    assert not correct(sea, "a@3", None, SINCE, SINCE + DAY)


@pytest.mark.parametrize(
    ("label", "since", "until", "fact"),
    [
        ("a@9", SINCE, None, "'a@9' is not registered"),
        ("a@2", SINCE, SINCE, "before it begins"),
        ("a@2", datetime(2999, 1, 1, tzinfo=UTC), None, "into the future"),
        ("a@2", SINCE, datetime(2999, 1, 1, tzinfo=UTC), "into the future"),
    ],
)
def test_a_correction_that_cannot_be_is_refused(
    sea: Connection, label: str, since: datetime, until: datetime | None, fact: str
) -> None:
    with pytest.raises(RegistrationError, match=fact):
        correct(sea, label, Role.PRIMARY, since, until)
    with pytest.raises(RegistrationError, match="needs a reason"):
        correct_roles(Database(sea, SCHEMA), label="a@2", role=Role.PRIMARY, since=SINCE, reason=" ")
    assert registry.versions(Database(sea, SCHEMA))[0].role is Role.PRIMARY


def test_what_will_be_known_cannot_be_asked(sea: Connection) -> None:
    with pytest.raises(PlanError, match="cannot be told yet"):
        holders(sea, SINCE, datetime(2999, 1, 1, tzinfo=UTC))


class History(RuleBasedStateMachine):
    """Random changes of one cycle, asked about at random later moments.

    The oracle: `marks` are readings of the registry's clock between changes, and `known[k][m]` is who held
    which role at mark m, as known at mark k. Marks 0 to 2 lie years back, where founding rows may begin.
    """

    conn: Connection

    def __init__(self) -> None:
        super().__init__()
        self.cycle_id = f"c{next(NUMBERS)}"
        self.model_id = f"m{self.cycle_id}"
        put_cycle(self.conn, self.cycle_id)
        put_model(self.conn, self.cycle_id, self.model_id)
        self.marks = [SINCE, SINCE + DAY, SINCE + 2 * DAY]
        self.known: list[list[Holders]] = [[{} for _ in range(n + 1)] for n in range(3)]
        self.is_founding_only = True
        self.live: list[tuple[int, str, Holders]] = []
        self._mark(self.known[-1], {})

    def _mark(self, believed: list[Holders], now: Holders) -> None:
        """A change is over: who holds what from now on, and what is believed of every mark before."""
        self.marks.append(registry.clock(Database(self.conn, SCHEMA)))
        self.known.append([*believed, now])

    def _said(self, m: int, k: int) -> Holders:
        return self.known[k][min(m, k)]

    def _label(self, version: str) -> str:
        return f"{self.model_id}@{version}"

    @staticmethod
    def _with(held: Holders, version: str, role: Role | None) -> Holders:
        others = {
            v: r for v, r in held.items() if v != version and not (role is Role.PRIMARY and r is Role.PRIMARY)
        }
        return others if role is None else {**others, version: role}

    @rule(version=st.sampled_from(VERSIONS), role=st.sampled_from((*ROLES, None)))
    def change(self, version: str, role: Role | None) -> None:
        """Promote, demote, roll back, retire."""
        held = self.known[-1][-1]
        assert give(self.conn, self._label(version), role) == (held.get(version) != role)
        self.is_founding_only &= held.get(version) == role
        self._mark(self.known[-1], self._with(held, version, role))

    @rule(
        version=st.sampled_from(VERSIONS),
        role=st.sampled_from((*ROLES, None)),
        data=st.data(),
        is_open=st.booleans(),
    )
    def correct(self, version: str, role: Role | None, data: st.DataObject, is_open: bool) -> None:  # noqa: FBT001
        """Rewrite an interval between two marks, or from a mark on."""
        first = data.draw(st.integers(0, len(self.marks) - 2))
        last = len(self.marks) if is_open else data.draw(st.integers(first + 1, len(self.marks) - 1))
        until = None if is_open else self.marks[last]
        is_news = correct(self.conn, self._label(version), role, self.marks[first], until)
        before = [*self.known[-1], self.known[-1][-1]]
        after = [
            self._with(held, version, role) if first <= m < last or (is_open and m >= first) else held
            for m, held in enumerate(before)
        ]
        assert is_news or after == before
        self.is_founding_only &= not is_news
        self._mark(after[:-1], after[-1])

    @rule(version=st.sampled_from(VERSIONS), role=st.sampled_from(ROLES), since=st.integers(0, 2))
    @precondition(lambda self: self.is_founding_only)
    def found(self, version: str, role: Role, since: int) -> None:
        """A first role since an instant that no cycle has been planned after yet."""
        held = self.known[-1][-1]
        if held.get(version) == role:
            return
        is_refused = version in held or (role is Role.PRIMARY and Role.PRIMARY in held.values())
        is_refused |= any(m >= since for m, _, _ in self.live)
        try:
            give(self.conn, self._label(version), role, self.marks[since])
            assert not is_refused
        except RegistrationError:
            assert is_refused
            return
        self.known = [
            [{**held, version: role} if m >= since else held for m, held in enumerate(row)]
            for row in self.known
        ]
        self._mark(self.known[-1], {**held, version: role})

    @rule(name=st.sampled_from(("x", "y")))
    def register(self, name: str) -> None:
        """Register what the plan is not made of: another model, another dependency of none."""
        put_model(self.conn, self.cycle_id, f"{name}{self.cycle_id}")
        registry.put_version(
            Database(self.conn, SCHEMA), model_id=self.model_id, version=f"new{name}", params={}
        )
        self._mark(self.known[-1], self.known[-1][-1])

    @rule(m=st.integers(0, 60))
    def run_live(self, m: int) -> None:
        """A cycle runs at a mark, live or as a backfill: its plan is recorded."""
        m = min(m, len(self.marks) - 1)
        cycle = registry.cycle_spec(Database(self.conn, SCHEMA), self.cycle_id).at(self.marks[m])
        plan = build_plan(
            registry.models_at(Database(self.conn, SCHEMA), self.cycle_id, self.marks[m]), strict=False
        )
        cycle_runs.record_plan(
            Database(self.conn, SCHEMA), cycle, Mode.AS_OF, plan.to_json(), plan.digest, None
        )
        self.live.append((m, plan.digest, self._said(m, m)))

    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        """What was valid at any mark, as known at any other."""
        m = data.draw(st.integers(0, len(self.marks) - 1))
        k = data.draw(st.integers(0, len(self.marks) - 1))
        asked = holders(self.conn, self.marks[m], self.marks[k], self.cycle_id)
        assert asked == self._said(m, k)

    @invariant()
    def as_of_is_what_was_known_then(self) -> None:
        for m in {len(self.marks) - 1, len(self.marks) // 2}:
            assert holders(self.conn, self.marks[m], cycle_id=self.cycle_id) == self._said(m, m)

    @invariant()
    def a_live_run_saw_what_is_answered_for_ever(self) -> None:
        for m, digest, saw in self.live[-3:]:
            specs = registry.models_at(Database(self.conn, SCHEMA), self.cycle_id, self.marks[m])
            assert build_plan(specs, strict=False).digest == digest
            assert {v.version: v.role for spec in specs for v in spec.versions} == saw

    @invariant()
    def never_two_champions(self) -> None:
        assert list(self.known[-1][-1].values()).count(Role.PRIMARY) <= 1


def _explore(database: Connection, examples: int, steps: int) -> None:
    machine = type("History", (History,), {"conn": database})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_answer_of_any_instant_never_changes_and_is_what_the_live_run_saw(database: Connection) -> None:
    _explore(database, examples=30, steps=20)


@pytest.mark.long
def test_the_answer_never_changes_over_many_histories(database: Connection) -> None:
    _explore(database, examples=1000, steps=50)
