"""Columns of every numeric type that Postgres has, and of times: read, profiled and judged alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from tests.snapshot.verdicts.test_column_faults import STEP, run

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.reports import FeatureProfile
from airflow_detection.errors import TerminalModelError
from airflow_detection.snapshot.verdicts.judge import judge_all
from airflow_detection.snapshot.verdicts.kinds import VerdictKind
from airflow_detection.snapshot.verdicts.runs import ManifestRun
from airflow_detection.store.database import Database
from airflow_detection.store.input_facts import with_profiles
from airflow_detection.store.reader import Reader

if TYPE_CHECKING:
    from tests.snapshot.manifests import Conn

FIRST = datetime(2026, 3, 1, 22, tzinfo=UTC)  # forty cycles pass midnight
PAYMENTS = """
select at, {} as amount from (
    select n, :window_start::timestamptz + n * interval '3 seconds' as at, (10 + hashint4(n + :seed) % 7) as a
      from generate_series(1, 1200) n) as payments order by n
"""


def window(conn: Conn, amount: str, number: int) -> ManifestRun:
    """Return the manifest of a cycle whose model reads an hour of payments."""
    start = FIRST + (number - 12) * STEP
    read = Reader(Database(conn, "detection"), {"window_start": start}).query(
        PAYMENTS.format(amount), {"seed": number}
    )
    inputs = with_profiles(read, "at")
    own = FeatureProfile.of("amount", inputs["amount"], start + 12 * STEP)
    features = {profile.name: profile for profile in (own, *inputs.newest)}
    return replace(
        run(number, features), cycle_started_at=FIRST + number * STEP, input_count=len(inputs),
        newest_input_at=inputs.newest_at,
    )  # fmt: skip


def reasons(conn: Conn, usual: str, odd: str) -> tuple[str, ...]:
    """Return the reasons of a silent fault in the last of forty cycles, after 39 usual ones."""
    runs = [*(window(conn, usual, number) for number in range(39)), window(conn, odd, 39)]
    *before, last = judge_all(runs)
    assert not [verdict for verdict in before if verdict.kind.is_bad]
    assert (last.kind is VerdictKind.SILENT_FAULT) == bool(last.reasons)
    return last.reasons


@pytest.mark.parametrize(
    "kind", ["numeric", "numeric(12,2)", "int2", "int4", "int8", "float4", "float8", "interval"]
)
def test_amounts_times_a_hundred_are_a_silent_fault(database: Conn, kind: str) -> None:
    usual = f"(a * interval '1 second')::{kind}" if kind == "interval" else f"a::{kind}"
    assert reasons(database, usual, usual) == ()
    given = reasons(database, usual, usual.replace("a", "(a * 100)", 1))
    assert {text.split(" is ")[0] for text in given} == {
        "the mean of amount", "the mean of amount in the newest rows"
    }  # fmt: skip


@pytest.mark.parametrize("special", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("kind", ["numeric", "float8"])
def test_a_number_that_is_not_finite_hides_no_other(database: Conn, kind: str, special: str) -> None:
    usual = f"case when n % 100 = 0 then '{special}' else a::{kind} end"
    assert reasons(database, usual, usual) == ()
    assert reasons(database, usual, usual.replace("a:", "(a * 100):"))


@pytest.mark.parametrize(
    "of_row",
    [
        "at - a * interval '10 seconds'",
        "(at - a * interval '10 seconds')::timestamp",
        "(at - a * interval '10 seconds')::time",
        "(at - a * interval '10 seconds')::timetz",
        "at::date - a * 300",
    ],
    ids=["timestamptz", "timestamp", "time", "timetz", "date"],
)
def test_times_that_move_away_from_their_rows_are_a_silent_fault(database: Conn, of_row: str) -> None:
    assert reasons(database, of_row, of_row) == ()
    assert reasons(
        database, of_row, of_row.replace("at -", "at - interval '1 hour' -", 1).replace("300", "900")
    )


def test_a_time_that_all_rows_share_and_times_around_the_clock_have_no_mean(database: Conn) -> None:
    for usual in (
        "timestamptz '2026-01-01Z'",
        "'08:00'::time",
        "(a * interval '1 hour')::time",
        "current_date",
    ):
        profile = window(database, usual, 0).features["amount"]
        assert (profile.count, profile.mean, profile.deviation) == (1200, None, None), usual


def test_money_is_refused_because_its_text_depends_on_a_locale(database: Conn) -> None:
    reader = Reader(Database(database, "detection"), {})
    for kind in ("1::money", "array[1::money]"):
        with pytest.raises(TerminalModelError, match=r"^column 'paid' is of type money: cast it to numeric$"):
            reader.query(f"select {kind} as paid")


@pytest.mark.parametrize("special", ["NaN", "Infinity"])
@pytest.mark.parametrize("kind", ["numeric", "float8"])
def test_a_time_that_is_not_finite_is_null_or_refused(database: Conn, kind: str, special: str) -> None:
    inputs = Reader(Database(database, "detection"), {}).query(
        f"select case when n = 2 then '{special}' else n::{kind} end as at from generate_series(1, 3) n"  # noqa: S608
    )
    if special == "Infinity":
        with pytest.raises(TerminalModelError, match="time_key 'at' holds"):
            with_profiles(inputs, "at")
        return
    facts = with_profiles(inputs, "at")
    assert facts.newest_at == datetime.fromtimestamp(3, UTC)
    assert {profile.name: profile.count for profile in facts.newest}["new:at"] == 1


def test_numbers_beyond_a_double_have_no_mean() -> None:
    for value in (10**400, 1e200):
        assert FeatureProfile.of("x", [value, -value, 1]).mean is None
    assert with_profiles(Inputs({"at": (timedelta(1),)}), None).newest == ()
