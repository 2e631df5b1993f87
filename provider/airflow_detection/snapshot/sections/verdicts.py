"""Verdicts of each version in the period, gravest first, and what changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile

from airflow_detection.domain.specs import Role
from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.snapshot.rendering.formats import counted
from airflow_detection.snapshot.report import Column, Fact, Kind, Standing, Status, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Scope
from airflow_detection.snapshot.verdicts.kinds import Verdict, VerdictKind
from airflow_detection.snapshot.verdicts.period import verdicts

TIME_BEFORE = timedelta(hours=1)
"""How long before the period verdicts are read, to tell what changed."""
MAX_REASONS, MAX_MARKS = 3, 60
_ROLES = (Role.PRIMARY, Role.CHALLENGER, Role.SHADOW)
VersionInCycle = tuple[str, str, str]
"""Cycle, model, version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictTimeline:
    """Verdicts of one version, oldest first: those of the period, and the last one before it, if any."""

    verdicts: tuple[Verdict, ...]
    before: Verdict | None

    @property
    def worst(self) -> Verdict:
        """Gravest verdict of the period, the latest of equals."""
        return min(reversed(self.verdicts), key=lambda v: v.kind.rank)

    @property
    def last(self) -> Verdict:
        """Verdict of the last cycle."""
        return self.verdicts[-1]

    @property
    def change(self) -> Verdict | None:
        """First verdict of the kind that the version changed to; None if its kind did not change.

        That kind is the worst of the period or, if that was the kind before the period already, the last one:
        then it is the first of the latest verdicts in a row that have it.
        """
        previous = self.before.kind if self.before else None
        kind = self.worst.kind if self.worst.kind is not previous else self.last.kind
        if kind is previous:
            return None
        latest = list(takewhile(lambda v: v.kind is kind, reversed(self.verdicts)))
        return latest[-1] if kind is not self.worst.kind else next(v for v in self.verdicts if v.kind is kind)

    @property
    def status(self) -> Status:
        """OK without a bad verdict; BAD if a champion's last one is bad; ATTENTION for any other."""
        if not self.worst.kind.is_bad:
            return Status.OK
        is_acute = self.last.kind.is_bad and self.last.role == Role.PRIMARY
        return Status.BAD if is_acute else Status.ATTENTION


class Verdicts(BaseSection):
    """One row for each version, the gravest first."""

    name, title = "verdicts", "Verdicts"
    may_use_full_budget = True

    def query(self, scope: Scope) -> tuple[list[VerdictTimeline], int]:
        """Return the verdicts of the period and the hour before, by version; and how many cycles ran."""
        ended = {(r["cycle_id"], r["cycle_started_at"]) for r in scope.ended_since()}
        judged = verdicts(
            scope.db,
            start=min([scope.start, *(at for _, at in ended)]) - TIME_BEFORE,
            end=scope.end,
            thresholds=scope.process_facts.thresholds or Thresholds(),
            use_model_registry=scope.use_model_registry,
        )
        scope.memory["verdicts"] = judged
        by_version: dict[VersionInCycle, list[Verdict]] = defaultdict(list)
        for verdict in sorted(judged, key=lambda v: v.cycle_started_at):
            by_version[verdict.cycle_id, verdict.model_id, verdict.version].append(verdict)
        timelines = []
        for of_version in by_version.values():
            reported = tuple(
                v
                for v in of_version
                if v.cycle_started_at >= scope.start or (v.cycle_id, v.cycle_started_at) in ended
            )
            earlier = [
                v for v in of_version if reported and v.cycle_started_at < reported[0].cycle_started_at
            ]
            if reported:
                timelines.append(VerdictTimeline(verdicts=reported, before=earlier[-1] if earlier else None))
        return timelines, scope.rows("cycles_that_ran")[0]["cycles"]

    def render(self, data: tuple[list[VerdictTimeline], int], scope: Scope) -> Findings:
        """Show the versions, and what changed; ATTENTION if cycles ran and no version has a verdict."""
        del scope
        timelines, cycles = data
        if not timelines and cycles:
            return Findings(
                status=Status.ATTENTION,
                summary=f"{cycles} cycles ran, and no version has a verdict",
                tables=(_versions([]),),
            )
        timelines = sorted(
            timelines,
            key=lambda t: (
                t.worst.kind.rank,
                t.last.kind.rank,
                _ROLES.index(t.last.role),
                t.last.model_id,
                t.last.version,
            ),
        )
        kinds = [t.last.kind for t in timelines]
        statuses = [t.status for t in timelines]
        status = min(statuses, key=[Status.BAD, Status.ATTENTION, Status.OK].index, default=Status.OK)
        return Findings(
            status=status,
            summary=_summary(timelines),
            facts=tuple(
                Fact(label=kind.value, value=kinds.count(kind), status=Status.BAD if kind.is_bad else None)
                for kind in sorted(set(kinds), key=lambda k: k.rank)
            ),
            tables=(_versions(timelines), _changes(timelines)),
            standings=tuple(_standing(t) for t in timelines),
        )


def _standing(timeline: VerdictTimeline) -> Standing:
    return Standing(
        model_id=timeline.last.model_id,
        version=timeline.last.version,
        role=str(timeline.last.role),
        worst=timeline.worst.kind.value,
        last=timeline.last.kind.value,
        is_bad=timeline.worst.kind.is_bad,
    )


def _summary(timelines: Sequence[VerdictTimeline]) -> str:
    if not timelines:
        return "no cycle was due, or none has a record"
    bad = [t for t in timelines if t.last.kind.is_bad]
    recovered = [t for t in timelines if t.worst.kind.is_bad and not t.last.kind.is_bad]
    remarks = []
    if bad:
        remarks.append(f"{len(bad)} of {counted(len(timelines), 'version')} are in trouble now")
    if recovered:
        remarks.append(f"{len(recovered)} had trouble that is over")
    quiet = [t for t in timelines if t.last.kind is VerdictKind.NO_SIGNAL]
    if quiet:
        remarks.append(f"{counted(len(quiet), 'version')} found nothing: it is quiet")
    warming = [t for t in timelines if t.last.kind is VerdictKind.WARMING_UP]
    if warming:
        remarks.append(f"too little history to judge {counted(len(warming), 'version')}")
    return "; ".join(remarks) or f"{counted(len(timelines), 'version')}, and all is as it should be"


def _strip(verdicts: Sequence[Verdict]) -> list[VerdictKind]:
    """Return the kind of each verdict, or the gravest of every few in a row: MAX_MARKS at most."""
    step = -(-len(verdicts) // MAX_MARKS) or 1
    return [
        min((v.kind for v in verdicts[n : n + step]), key=lambda k: k.rank)
        for n in range(0, len(verdicts), step)
    ]


def _versions(timelines: Sequence[VerdictTimeline]) -> Table:
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
                f"{t.last.model_id}@{t.last.version}",
                str(t.last.role),
                t.worst.kind.value,
                t.last.kind.value,
                tuple(kind.value for kind in _strip(t.verdicts)),
                "; ".join(t.worst.reasons[:MAX_REASONS]),
            )
            for t in timelines
        ),
        marks=tuple(None if t.status is Status.OK else t.status for t in timelines),
        empty="no version was due",
    )


def _changes(timelines: Sequence[VerdictTimeline]) -> Table:
    rows, marks = [], []
    for t in timelines:
        change = t.change
        if t.before is None or change is None:
            continue
        rows.append(
            (
                f"{t.last.model_id}@{t.last.version}",
                t.before.kind.value,
                change.kind.value,
                change.cycle_started_at.isoformat(),
            )
        )
        marks.append(t.status if change.kind.is_bad else None)
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
