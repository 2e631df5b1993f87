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
from airflow_detection.errors import ClockBehind, PlanError, RegistrationError
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
def registered(database: Connection) -> Connection:
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


def test_a_correction_shows_only_to_those_who_ask_what_is_known_since(registered: Connection) -> None:
    before = registry.clock(Database(registered, SCHEMA))
    assert correct(registered, "a@2", Role.PRIMARY, SINCE + DAY, SINCE + 2 * DAY)
    after = registry.clock(Database(registered, SCHEMA))
    old, new = {"1": Role.PRIMARY}, {"2": Role.PRIMARY}
    for at, corrected in ((0, old), (1, new), (1.9, new), (2, old), (3, old)):
        instant = SINCE + at * DAY
        assert holders(registered, instant) == old
        assert holders(registered, instant, before) == old
        assert holders(registered, instant, after) == corrected
    assert holders(registered, after) == old, "what holds now was not corrected"


def test_both_the_wrong_row_and_the_correction_stay(registered: Connection) -> None:
    correct(registered, "a@2", Role.PRIMARY, SINCE + DAY, SINCE + 2 * DAY)
    rows = registered.execute(
        "select version_id, superseded_at is null, is_correction, actor, reason"
        " from detection.detection_model_roles order by role_id"
    ).fetchall()
    first, second = (v.version_id for v in registry.versions(Database(registered, SCHEMA))[:2])
    assert rows[0][:3] == (first, False, False)
    corrections = [(first, True, True, "ana", "was wrong")] * 2 + [(second, True, True, "ana", "was wrong")]
    assert rows[1:] == corrections


def test_a_correction_without_an_end_holds_from_now_on_too(registered: Connection) -> None:
    assert correct(registered, "a@2", Role.PRIMARY, SINCE)
    assert holders(registered, registry.clock(Database(registered, SCHEMA))) == {"2": Role.PRIMARY}
    assert give(registered, "a@1", Role.PRIMARY), "and the next promotion ends it"
    assert holders(registered, registry.clock(Database(registered, SCHEMA))) == {"1": Role.PRIMARY}


def test_a_role_that_was_never_held_is_taken_back(registered: Connection) -> None:
    assert correct(registered, "a@1", None, SINCE - DAY, SINCE + DAY)
    now = registry.clock(Database(registered, SCHEMA))
    assert holders(registered, SINCE, now) == {}
    assert holders(registered, SINCE + DAY, now) == {"1": Role.PRIMARY}
    assert holders(registered, SINCE) == {"1": Role.PRIMARY}


def test_the_same_correction_again_changes_nothing(registered: Connection) -> None:
    assert not correct(registered, "a@1", Role.PRIMARY, SINCE, SINCE + DAY)
    assert correct(registered, "a@2", Role.SHADOW, SINCE, SINCE + DAY)
    assert not correct(registered, "a@2", Role.SHADOW, SINCE, SINCE + DAY)
    assert not correct(registered, "a@3", None, SINCE, SINCE + DAY)


@pytest.mark.parametrize(
    ("label", "since", "until", "reason"),
    [
        ("a@9", SINCE, None, "'a@9' is not registered"),
        ("a@2", SINCE, SINCE, "before it begins"),
        ("a@2", datetime(2999, 1, 1, tzinfo=UTC), None, "into the future"),
        ("a@2", SINCE, datetime(2999, 1, 1, tzinfo=UTC), "into the future"),
    ],
)
def test_a_correction_that_cannot_be_is_refused(
    registered: Connection, label: str, since: datetime, until: datetime | None, reason: str
) -> None:
    with pytest.raises(RegistrationError, match=reason):
        correct(registered, label, Role.PRIMARY, since, until)
    with pytest.raises(RegistrationError, match="needs a reason"):
        correct_roles(Database(registered, SCHEMA), label="a@2", role=Role.PRIMARY, since=SINCE, reason=" ")
    assert registry.versions(Database(registered, SCHEMA))[0].role is Role.PRIMARY


def plan_ahead(conn: Connection, ahead: timedelta) -> tuple[datetime, str]:
    """Record the plan of a cycle that lies behind the clock, as where that has stepped back since."""
    db = Database(conn, SCHEMA)
    cycle = registry.cycle_spec(db, "sea").at(registry.clock(db) + ahead)
    plan = build_plan(registry.models_at(db, "sea", cycle.started_at))
    cycle_runs.record_plan(db, cycle, Mode.AS_OF, plan.to_json(), plan.digest, None)
    return cycle.started_at, plan.digest


@pytest.mark.parametrize("change", ["promote", "demote", "depend", "correct", "register"])
def test_a_clock_that_steps_back_changes_no_cycle_that_was_planned(
    registered: Connection, change: str
) -> None:
    planned_at, digest = plan_ahead(registered, timedelta(seconds=120))
    if change == "promote":
        give(registered, "a@2", Role.PRIMARY)
    elif change == "demote":
        give(registered, "a@1", None)
    elif change == "correct":
        correct(registered, "a@2", Role.PRIMARY, SINCE)
    else:
        put_model(registered, "sea", "b", *(["a"] if change == "depend" else []))
        give(registered, "b@1", Role.PRIMARY)
        if change == "depend":
            planned_at, digest = plan_ahead(registered, timedelta(seconds=140))
            put_model(registered, "sea", "b")
    models = registry.models_at(Database(registered, SCHEMA), "sea", planned_at)
    assert build_plan(models).digest == digest


def test_a_hand_written_cycle_is_not_changed_either(registered: Connection) -> None:
    (ran_at,) = registered.execute(
        "insert into detection.detection_model_runs (cycle_id, cycle_started_at, version_id, model_id, role,"
        " outcome, attempt, started_at) select 'sea', now() + interval '2 min', version_id, 'a', 'PRIMARY',"
        " 'SUCCEEDED', 1, now() from detection.detection_model_versions limit 1 returning cycle_started_at"
    ).fetchone()  # type: ignore[misc]  # it returns a row
    give(registered, "a@2", Role.PRIMARY)
    assert holders(registered, ran_at) == {"1": Role.PRIMARY}
    assert holders(registered, ran_at + timedelta(seconds=1)) == {"2": Role.PRIMARY}


def test_a_clock_far_behind_changes_nothing_until_it_is_set(registered: Connection) -> None:
    plan_ahead(registered, timedelta(days=2))
    with pytest.raises(ClockBehind, match="must be at most 1:00:00 behind"):
        give(registered, "a@2", Role.PRIMARY)
    assert holders(registered, registry.clock(Database(registered, SCHEMA))) == {"1": Role.PRIMARY}


def test_what_will_be_known_cannot_be_asked(registered: Connection) -> None:
    with pytest.raises(PlanError, match="cannot be told yet"):
        holders(registered, SINCE, datetime(2999, 1, 1, tzinfo=UTC))


class History(RuleBasedStateMachine):
    """Random changes of one cycle, asked about at random later moments.

    The oracle: `marks` are readings of the registry's clock between changes, and `history[k][m]` is who held
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
        self.history: list[list[Holders]] = [[{} for _ in range(n + 1)] for n in range(3)]
        self.is_founding_only = True
        self.live: list[tuple[int, str, Holders]] = []
        self._mark(self.history[-1], {})

    def _mark(self, earlier: list[Holders], now: Holders) -> None:
        """Note a change: who holds which role from now on, and what is known of every mark before."""
        self.marks.append(registry.clock(Database(self.conn, SCHEMA)))
        self.history.append([*earlier, now])

    def _expected(self, m: int, k: int) -> Holders:
        return self.history[k][min(m, k)]

    def _label(self, version: str) -> str:
        return f"{self.model_id}@{version}"

    @staticmethod
    def _with(by_version: Holders, version: str, role: Role | None) -> Holders:
        others = {
            v: r
            for v, r in by_version.items()
            if v != version and not (role is Role.PRIMARY and r is Role.PRIMARY)
        }
        return others if role is None else {**others, version: role}

    @rule(version=st.sampled_from(VERSIONS), role=st.sampled_from((*ROLES, None)))
    def change(self, version: str, role: Role | None) -> None:
        """Promote, demote, roll back, retire."""
        by_version = self.history[-1][-1]
        assert give(self.conn, self._label(version), role) == (by_version.get(version) != role)
        self.is_founding_only &= by_version.get(version) == role
        self._mark(self.history[-1], self._with(by_version, version, role))

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
        is_new = correct(self.conn, self._label(version), role, self.marks[first], until)
        before = [*self.history[-1], self.history[-1][-1]]
        after = [
            self._with(by_version, version, role)
            if first <= m < last or (is_open and m >= first)
            else by_version
            for m, by_version in enumerate(before)
        ]
        assert is_new or after == before
        self.is_founding_only &= not is_new
        self._mark(after[:-1], after[-1])

    @rule(version=st.sampled_from(VERSIONS), role=st.sampled_from(ROLES), since=st.integers(0, 2))
    @precondition(lambda self: self.is_founding_only)
    def begin_in_the_past(self, version: str, role: Role, since: int) -> None:
        """Give a first role since an instant after which no cycle has been planned yet."""
        by_version = self.history[-1][-1]
        if by_version.get(version) == role:
            return
        is_error = version in by_version or (role is Role.PRIMARY and Role.PRIMARY in by_version.values())
        is_error |= any(m >= since for m, _, _ in self.live)
        try:
            give(self.conn, self._label(version), role, self.marks[since])
            assert not is_error
        except RegistrationError:
            assert is_error
            return
        self.history = [
            [{**by_version, version: role} if m >= since else by_version for m, by_version in enumerate(row)]
            for row in self.history
        ]
        self._mark(self.history[-1], {**by_version, version: role})

    @rule(name=st.sampled_from(("x", "y")))
    def register(self, name: str) -> None:
        """Register things outside of the plan: another model, another version without a role."""
        put_model(self.conn, self.cycle_id, f"{name}{self.cycle_id}")
        registry.put_version(
            Database(self.conn, SCHEMA), model_id=self.model_id, version=f"new{name}", params={}
        )
        self._mark(self.history[-1], self.history[-1][-1])

    @rule(m=st.integers(0, 60))
    def run_live(self, m: int) -> None:
        """Run a cycle at a mark, live or as a backfill: its plan is recorded."""
        m = min(m, len(self.marks) - 1)
        cycle = registry.cycle_spec(Database(self.conn, SCHEMA), self.cycle_id).at(self.marks[m])
        plan = build_plan(
            registry.models_at(Database(self.conn, SCHEMA), self.cycle_id, self.marks[m]), strict=False
        )
        cycle_runs.record_plan(
            Database(self.conn, SCHEMA), cycle, Mode.AS_OF, plan.to_json(), plan.digest, None
        )
        self.live.append((m, plan.digest, self._expected(m, m)))

    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        """Compare what was valid at any mark, as known at any other."""
        m = data.draw(st.integers(0, len(self.marks) - 1))
        k = data.draw(st.integers(0, len(self.marks) - 1))
        asked = holders(self.conn, self.marks[m], self.marks[k], self.cycle_id)
        assert asked == self._expected(m, k)

    @invariant()
    def as_of_is_what_was_known_then(self) -> None:
        for m in {len(self.marks) - 1, len(self.marks) // 2}:
            assert holders(self.conn, self.marks[m], cycle_id=self.cycle_id) == self._expected(m, m)

    @invariant()
    def a_live_run_saw_what_is_answered_for_ever(self) -> None:
        for m, digest, saw in self.live[-3:]:
            specs = registry.models_at(Database(self.conn, SCHEMA), self.cycle_id, self.marks[m])
            assert build_plan(specs, strict=False).digest == digest
            assert {v.version: v.role for spec in specs for v in spec.versions} == saw

    @invariant()
    def never_two_champions(self) -> None:
        assert list(self.history[-1][-1].values()).count(Role.PRIMARY) <= 1


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
