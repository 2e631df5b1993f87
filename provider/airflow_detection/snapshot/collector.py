"""Collector of a report: every section over one read-only snapshot of the database, isolated and timed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter

import psycopg

from airflow_detection.domain.specs import require_utc
from airflow_detection.errors import RegistryUnavailable, StorageError
from airflow_detection.snapshot.deadline import deadline
from airflow_detection.snapshot.rendering.formats import counted
from airflow_detection.snapshot.report import Missed, Report, Section, Standing, Status
from airflow_detection.snapshot.section import (
    DIAGNOSTIC,
    HOURLY,
    BaseSection,
    Findings,
    ProcessFacts,
    Scope,
    SectionTimeout,
)
from airflow_detection.snapshot.verdicts.kinds import VerdictKind
from airflow_detection.store import snapshots
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import unavailable
from airflow_detection.store.migrations import installed_packs

HOUR = timedelta(hours=1)
MAX_ROWS = 200
"""A page of a thousand models can still be opened, mailed and read."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBudget:
    """Time that a section, and a whole report, may take, in seconds."""

    section_s: float = 10.0
    report_s: float = 20.0


TIME_BUDGETS = {HOURLY: TimeBudget(), DIAGNOSTIC: TimeBudget(section_s=60.0, report_s=120.0)}


def hour_before(instant: datetime) -> datetime:
    """Return the start of the last full hour (UTC) that is over at `instant`."""
    at = require_utc("instant", instant)
    return at.replace(minute=0, second=0, microsecond=0) - HOUR


def hourly(
    db: Database,
    sections: Sequence[BaseSection],
    *,
    at: datetime,
    process_facts: ProcessFacts | None = None,
    limits: TimeBudget | None = None,
) -> tuple[snapshots.StoredReport, bool]:
    """Return the report of the last full hour before `at`, and whether it was taken just now.

    A stored report is returned as it is; without one the report is taken and stored.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    start = hour_before(at)
    stored = snapshots.hourly(db, start)
    if stored is not None:
        return stored, False
    report = take(db, sections, start=start, end=start + HOUR, process_facts=process_facts, limits=limits)
    return snapshots.save(db, report.to_json())


def diagnostic(
    db: Database,
    sections: Sequence[BaseSection],
    *,
    at: datetime,
    hours: int = 24,
    process_facts: ProcessFacts | None = None,
    limits: TimeBudget | None = None,
) -> Report:
    """Take a longer report, of the `hours` before `at`; it is not stored.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    end = require_utc("at", at)
    return take(
        db,
        sections,
        start=end - timedelta(hours=hours),
        end=end,
        kind=DIAGNOSTIC,
        process_facts=process_facts,
        limits=limits,
    )


def take(
    db: Database,
    sections: Sequence[BaseSection],
    *,
    start: datetime,
    end: datetime,
    kind: str = HOURLY,
    process_facts: ProcessFacts | None = None,
    limits: TimeBudget | None = None,
) -> Report:
    """Take a report of the cycles in [start, end), UTC; its connection is in autocommit mode.

    A section that fails or takes too long gives the reason; it changes nothing of the others.

    Raises:
        RegistryUnavailable: the connection was lost.
    """
    queries = db.queries("detection_snapshots")
    facts = process_facts or ProcessFacts()
    budget = limits or TIME_BUDGETS[kind]
    began = perf_counter()
    try:
        with db.conn.transaction():
            db.conn.execute(queries["begin_report"])
            db.conn.execute(queries["planner_settings"])
            row = db.conn.execute(queries["clock"]).fetchone()
            taken_at = require_utc("clock", row[0]) if row else datetime.now(UTC)
            scope = Scope(
                db=db, start=start, end=end, taken_at=taken_at, kind=kind,
                process_facts=facts,
            )  # fmt: skip
            computed: list[Section] = []
            standings: tuple[Standing, ...] = ()
            packs = {None, *installed_packs(db)}
            for section in (section for section in sections if section.pack in packs):
                left_s = budget.report_s - (perf_counter() - began)
                max_s = budget.report_s if section.may_use_full_budget else budget.section_s
                scope.limit_s, scope.began = min(max_s, left_s), perf_counter()
                result, findings = _compute(section, scope)
                computed.append(result)
                standings = findings.standings or standings
            missed = _missed(db, start) if kind == HOURLY else ()
    except psycopg.Error as error:
        if (passing := unavailable(error, "the report was not taken")) is not None:
            raise passing from error
        raise StorageError(f"the report was refused: {str(error).strip()}") from error
    return Report(
        kind=kind,
        taken_at=taken_at.isoformat(),
        start=start.isoformat(),
        end=end.isoformat(),
        schema=db.schema,
        code_version=facts.code_version,
        headline=headline(computed, standings),
        sections=tuple(computed),
        standings=standings,
        missed=missed,
        took_ms=round((perf_counter() - began) * 1000, 1),
    )


def _compute(section: BaseSection, scope: Scope) -> tuple[Section, Findings]:
    try:
        if scope.limit_s <= 0:
            raise SectionTimeout(0.0)
        with scope.conn.transaction():
            scope.limit_statements(scope.limit_s)
            with deadline(scope.conn, scope.limit_s):
                findings = section.render(section.query(scope), scope)
            if not isinstance(findings, Findings):
                raise TypeError(f"render gave {type(findings).__name__}, not Findings")
            return _section(section, scope, findings), findings
    except Exception as error:  # the isolation boundary of the report: a section costs the others nothing
        if scope.conn.closed:
            raise RegistryUnavailable(f"the connection was lost: {error}") from error
        log.warning("section %s could not be computed", section.name, exc_info=True)
        no_findings = Findings(status=Status.NOT_COMPUTED)
        return _section(section, scope, no_findings, reason=_reason(error, scope)), no_findings


def _section(section: BaseSection, scope: Scope, findings: Findings, reason: str = "") -> Section:
    result = Section(
        name=section.name,
        title=section.title,
        status=findings.status,
        summary=findings.summary,
        why=reason,
        facts=findings.facts,
        tables=tuple(table.within(MAX_ROWS) for table in findings.tables),
        series=findings.series,
        took_ms=round((perf_counter() - scope.began) * 1000, 1),
    )
    Report(  # a value that cannot be stored raises here: a failure of this section alone
        kind="", taken_at="", start="", end="", schema="", code_version="", headline="",
        sections=(result,), standings=findings.standings,
    ).to_json()  # fmt: skip
    return result


def _reason(error: Exception, scope: Scope) -> str:
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    if isinstance(cause, psycopg.errors.QueryCanceled) or (
        isinstance(error, SectionTimeout) and error.limit_s > 0
    ):
        return f"it took longer than {max(scope.limit_s, 0):.3g} s"
    if isinstance(error, SectionTimeout):
        return "the report's time was up before its turn came"
    if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
        return cause.diag.message_primary
    return f"{type(error).__name__}: {str(error).strip() or 'without a message'}"


def _missed(db: Database, start: datetime) -> tuple[Missed, ...]:
    """Return the hours without a report, adjacent ones as one span."""
    spans: list[tuple[datetime, datetime]] = []
    for hour in snapshots.missed_hours(db, start):
        if spans and spans[-1][1] == hour:
            spans[-1] = (spans[-1][0], hour + HOUR)
        else:
            spans.append((hour, hour + HOUR))
    return tuple(Missed(start=a.isoformat(), end=b.isoformat(), hours=(b - a) // HOUR) for a, b in spans)


def _named(standings: Sequence[Standing]) -> str:
    named = ", ".join(f"{s.label} {s.worst}" for s in standings[:3])
    return f"{named} and {len(standings) - 3} more" if len(standings) > 3 else named


def headline(sections: Sequence[Section], standings: Sequence[Standing]) -> str:
    """Return the report in one sentence: the versions that are bad, by name, or that none is."""
    of_all = f"of {counted(len(standings), 'version')} "
    bad = [s for s in standings if VerdictKind(s.last).is_bad]
    over = [s for s in standings if s.is_bad and s not in bad]
    troubles = []
    if bad:
        verb = "is" if len(bad) == 1 else "are"
        troubles.append(f"{len(bad)} {of_all}{verb} in trouble: {_named(bad)}")
    if over:
        troubles.append(f"{len(over)} {'' if bad else of_all}had trouble that is over: {_named(over)}")
    if troubles:
        return "; ".join(troubles)
    bad_sections = [s.title for s in sections if s.status is Status.BAD]
    if bad_sections:
        return f"The versions answer as they should; look at: {', '.join(bad_sections)}"
    not_computed = [s.title for s in sections if s.status is Status.NOT_COMPUTED]
    if not_computed:
        return f"Nothing bad was found, but not all could be computed: {', '.join(not_computed)}"
    warming = sum(s.last == "WARMING_UP" for s in standings)
    if warming:
        of_all = f"{warming} of {counted(len(standings), 'version')}"
        return f"Nothing bad was found; too little history to judge {of_all}"
    if standings and all(s.last == "NO_SIGNAL" for s in standings):
        return "All is quiet: nothing was found, and every version answers as it should"
    attention = [s.title for s in sections if s.status is Status.ATTENTION]
    if attention:
        return f"The versions answer as they should; worth a look: {', '.join(attention)}"
    return "All is well" if standings else "No version was due in this period"
