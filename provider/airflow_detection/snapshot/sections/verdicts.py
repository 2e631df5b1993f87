"""What each version's last hour amounts to, worst first, and what changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile

from airflow_detection.domain.specs import Role
from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.snapshot.rendering.formats import several
from airflow_detection.snapshot.report import Column, Fact, Kind, Standing, Status, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Scope
from airflow_detection.snapshot.verdicts.kinds import Verdict, VerdictKind
from airflow_detection.snapshot.verdicts.period import verdicts

BEFORE = timedelta(hours=1)
MOST_REASONS, MOST_MARKS = 3, 60
_ROLES = (Role.PRIMARY, Role.CHALLENGER, Role.SHADOW)
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictTimeline:
    """One version's verdicts in order of time: those of the period, and the last one before it."""

    verdicts: tuple[Verdict, ...]
    before: Verdict | None

    @property
    def worst(self) -> Verdict:
        """The gravest of the period, the latest of equals."""
        return min(reversed(self.verdicts), key=lambda v: v.kind.rank)

    @property
    def last(self) -> Verdict:
        """The one of the last cycle."""
        return self.verdicts[-1]

    @property
    def turned(self) -> Verdict | None:
        """Where it became its worst, or, if it was that before, what it is now; None if nothing changed."""
        was = self.before.kind if self.before else None
        kind = self.worst.kind if self.worst.kind is not was else self.last.kind
        if kind is was:
            return None
        back = list(takewhile(lambda v: v.kind is kind, reversed(self.verdicts)))
        return back[-1] if kind is not self.worst.kind else next(v for v in self.verdicts if v.kind is kind)

    @property
    def status(self) -> Status:
        """A champion in trouble is bad; a shadow, or what is over, deserves a look."""
        if not self.worst.kind.is_bad:
            return Status.OK
        is_acute = self.last.kind.is_bad and self.last.role == Role.PRIMARY
        return Status.BAD if is_acute else Status.ATTENTION


class Verdicts(BaseSection):
    """One line for each version, the gravest first."""

    name, title = "verdicts", "Verdicts"
    may_use_full_budget = True

    def query(self, scope: Scope) -> tuple[list[VerdictTimeline], int]:
        """The verdicts of the period and of the hour before it, by version; and how many cycles ran."""
        over = {(r["cycle_id"], r["cycle_started_at"]) for r in scope.ended_since()}
        found = verdicts(
            scope.db,
            start=min([scope.start, *(at for _, at in over)]) - BEFORE,
            end=scope.end,
            thresholds=scope.process_facts.thresholds or Thresholds(),
            use_model_registry=scope.use_model_registry,
        )
        scope.memory["verdicts"] = found
        by_version: dict[Key, list[Verdict]] = defaultdict(list)
        for verdict in sorted(found, key=lambda v: v.cycle_started_at):
            by_version[verdict.cycle_id, verdict.model_id, verdict.version].append(verdict)
        courses = []
        for held in by_version.values():
            told = tuple(
                v
                for v in held
                if v.cycle_started_at >= scope.start or (v.cycle_id, v.cycle_started_at) in over
            )
            earlier = [v for v in held if told and v.cycle_started_at < told[0].cycle_started_at]
            if told:
                courses.append(VerdictTimeline(verdicts=told, before=earlier[-1] if earlier else None))
        return courses, scope.rows("cycles_that_ran")[0]["cycles"]

    def render(self, found: tuple[list[VerdictTimeline], int], scope: Scope) -> Findings:
        """The table of versions, and that of changes; cycles without a single verdict need a look."""
        del scope
        held, cycles = found
        if not held and cycles:
            return Findings(
                status=Status.ATTENTION,
                summary=f"{cycles} cycles ran, and no version has a verdict",
                tables=(_versions([]),),
            )
        courses = sorted(
            held,
            key=lambda c: (
                c.worst.kind.rank,
                c.last.kind.rank,
                _ROLES.index(c.last.role),
                c.last.model_id,
                c.last.version,
            ),
        )
        kinds = [c.last.kind for c in courses]
        statuses = [c.status for c in courses]
        status = min(statuses, key=[Status.BAD, Status.ATTENTION, Status.OK].index, default=Status.OK)
        return Findings(
            status=status,
            summary=_summary(courses),
            facts=tuple(
                Fact(label=kind.value, value=kinds.count(kind), status=Status.BAD if kind.is_bad else None)
                for kind in sorted(set(kinds), key=lambda k: k.rank)
            ),
            tables=(_versions(courses), _changes(courses)),
            standings=tuple(_standing(c) for c in courses),
        )


def _standing(course: VerdictTimeline) -> Standing:
    return Standing(
        model_id=course.last.model_id,
        version=course.last.version,
        role=str(course.last.role),
        worst=course.worst.kind.value,
        last=course.last.kind.value,
        is_bad=course.worst.kind.is_bad,
    )


def _summary(courses: Sequence[VerdictTimeline]) -> str:
    if not courses:
        return "no cycle was due, or none has a record"
    bad = [c for c in courses if c.last.kind.is_bad]
    over = [c for c in courses if c.worst.kind.is_bad and not c.last.kind.is_bad]
    said = []
    if bad:
        said.append(f"{len(bad)} of {several(len(courses), 'version')} are in trouble now")
    if over:
        said.append(f"{len(over)} had trouble that is over")
    quiet = [c for c in courses if c.last.kind is VerdictKind.NO_SIGNAL]
    if quiet:
        said.append(f"{several(len(quiet), 'version')} found nothing: it is quiet")
    warming = [c for c in courses if c.last.kind is VerdictKind.WARMING_UP]
    if warming:
        said.append(f"too little history to judge {several(len(warming), 'version')}")
    return "; ".join(said) or f"{several(len(courses), 'version')}, and all is as it should be"


def _strip(verdicts: Sequence[Verdict]) -> list[VerdictKind]:
    """Each verdict, or the gravest of as many in a row as leave no more than fit."""
    step = -(-len(verdicts) // MOST_MARKS) or 1
    return [
        min((v.kind for v in verdicts[n : n + step]), key=lambda k: k.rank)
        for n in range(0, len(verdicts), step)
    ]


def _versions(courses: Sequence[VerdictTimeline]) -> Table:
    return Table(
        columns=(
            Column(label="Version", kind=Kind.CODE),
            Column(label="Role", weight=3),
            Column(label="Verdict", kind=Kind.VERDICT, help="the gravest of the period"),
            Column(label="Now", kind=Kind.VERDICT, weight=2, help="of the last cycle"),
            Column(
                label="Cycles",
                kind=Kind.STRIP,
                weight=2,
                help="each cycle, or the gravest of several, oldest first",
            ),
            Column(label="Why"),
        ),
        rows=tuple(
            (
                f"{c.last.model_id}@{c.last.version}",
                str(c.last.role),
                c.worst.kind.value,
                c.last.kind.value,
                tuple(kind.value for kind in _strip(c.verdicts)),
                "; ".join(c.worst.reasons[:MOST_REASONS]),
            )
            for c in courses
        ),
        marks=tuple(None if c.status is Status.OK else c.status for c in courses),
        empty="no version was due",
    )


def _changes(courses: Sequence[VerdictTimeline]) -> Table:
    rows, marks = [], []
    for c in courses:
        turned = c.turned
        if c.before is None or turned is None:
            continue
        rows.append(
            (
                f"{c.last.model_id}@{c.last.version}",
                c.before.kind.value,
                turned.kind.value,
                turned.cycle_started_at.isoformat(),
            )
        )
        marks.append(c.status if turned.kind.is_bad else None)
    return Table(
        title="Changed since the hour before",
        columns=(
            Column(label="Version", kind=Kind.CODE),
            Column(label="From", kind=Kind.VERDICT),
            Column(label="To", kind=Kind.VERDICT),
            Column(label="First at", kind=Kind.INSTANT, weight=2),
        ),
        rows=tuple(rows),
        marks=tuple(marks),
        empty="nothing changed",
    )
