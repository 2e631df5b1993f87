"""A comparison of two versions as a report, for the renderings: sections of facts, tables and a curve."""

from __future__ import annotations

import math
from collections.abc import Iterator

from airflow_detection.evidence.comparison import VersionComparison, VersionRecord
from airflow_detection.evidence.gate import GateReading
from airflow_detection.evidence.labelled import Interval, LabelledComparison, LabelledRecord
from airflow_detection.evidence.policy import Condition, ConditionState
from airflow_detection.snapshot.rendering.formats import counted, text
from airflow_detection.snapshot.report import (
    Cell,
    Column,
    Fact,
    Kind,
    Line,
    Report,
    Section,
    Series,
    Status,
    Table,
)

KIND = "comparison"
MAX_LOG_E = math.log(1e12)
"""E is drawn up to here: far beyond any threshold, and every lower value can still be seen."""


def comparison_report(comparison: VersionComparison, *, schema: str, code_version: str = "") -> Report:
    """Return a comparison as a report, which is not stored."""
    first = comparison.first_cycle or comparison.start or comparison.end
    return Report(
        kind=KIND,
        taken_at=comparison.known_at.isoformat(),
        start=first.isoformat(),
        end=(comparison.last_cycle or comparison.end).isoformat(),
        schema=schema,
        code_version=code_version,
        headline=_headline(comparison),
        sections=(
            _runs(comparison),
            _agreement(comparison),
            _labelled(comparison),
            *_e_process(comparison),
            *_gate(comparison),
        ),
    )


def _headline(c: VersionComparison) -> str:
    compared = f"{c.first.label} and {c.second.label} over {counted(c.cycles, 'cycle')}"
    if c.labelled is None:
        return f"{compared}: no label is about them"
    right, wrong = c.labelled.only_second_right, c.labelled.only_first_right
    labels = counted(c.labelled.units, "label")
    return f"{compared}: of {labels} {right} decide for {c.second.label}, {wrong} against"


def _sides(c: VersionComparison) -> tuple[VersionRecord, VersionRecord]:
    return c.first, c.second


def _runs(c: VersionComparison) -> Section:
    is_bad = any(side.failed or side.wrong_canaries or side.last_bad_verdict for side in _sides(c))
    known = "Known at this instant; what was recorded, or run again, later does not count"
    return Section(
        name="runs",
        title="Runs of both",
        status=Status.ATTENTION if is_bad or not c.cycles else Status.OK,
        summary=f"{counted(c.cycles, 'cycle')} completed by both, {c.replayed:,} of them with a replay",
        facts=(
            Fact(label="Known at", value=c.known_at.isoformat(), kind=Kind.INSTANT, note=known),
            Fact(label="Cycles compared", value=c.cycles),
            Fact(label=f"Only {c.first.label}", value=c.only_first_cycles),
            Fact(label=f"Only {c.second.label}", value=c.only_second_cycles),
        ),
        tables=(
            Table(
                columns=(
                    Column(label="Version", kind=Kind.CODE),
                    Column(label="Role", help="now"),
                    Column(label="Cycles", kind=Kind.COUNT),
                    Column(label="Replays", kind=Kind.COUNT, help="cycles of which a replay counts"),
                    Column(label="Failed", kind=Kind.COUNT),
                    Column(label="Skipped", kind=Kind.COUNT, weight=2),
                    Column(label="Took", kind=Kind.MS, help="median, compared cycles"),
                    Column(label="p95", kind=Kind.MS, weight=2),
                    Column(label="Alerts", kind=Kind.COUNT, help=f"entities above {c.above:g}, once a cycle"),
                    Column(label="Canaries", kind=Kind.COUNT, weight=2),
                    Column(label="Wrong", kind=Kind.COUNT, help="canaries off by more than the tolerance"),
                ),
                rows=tuple(
                    (
                        side.label, side.role or "none", side.cycles, side.replays, side.failed, side.skipped,
                        side.median_ms, side.p95_ms, side.alerts, side.canaries, side.wrong_canaries,
                    )
                    for side in _sides(c)
                ),
                marks=tuple(
                    Status.ATTENTION if side.failed or side.wrong_canaries else None for side in _sides(c)
                ),
            ),
            _verdicts(c),
        ),
    )  # fmt: skip


def _verdicts(c: VersionComparison) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (side.label, kind, count) for side in _sides(c) for kind, count in side.verdicts.items()
    ]
    bad = (
        f"the last bad one of {side.label}: {v.kind} at {v.at.isoformat()}"
        f"{' (a replay)' if v.is_replay else ''}: {v.reason}"
        for side in _sides(c)
        if (v := side.last_bad_verdict)
    )
    return Table(
        title="Verdicts",
        columns=(
            Column(label="Version", kind=Kind.CODE),
            Column(label="Verdict", kind=Kind.VERDICT),
            Column(label="Cycles", kind=Kind.COUNT),
        ),
        rows=tuple(rows),
        empty="no cycle was judged",
        note="; ".join(bad),
    )


def _agreement(c: VersionComparison) -> Section:
    a = c.agreement
    differ = a.newly_flagged + a.lost + a.flagged_unseen + a.lost_unseen
    entities = counted(a.entities, "entity counted once a cycle", "entities counted once a cycle")
    flagged = a.both_flagged + a.lost, a.both_flagged + a.newly_flagged
    sampled = f"; of every {c.every} cycles one" if c.every > 1 else ""
    examples: Iterator[tuple[Cell, ...]] = (
        (what, e.entity_id, e.primary_score, e.shadow_score, e.at.isoformat())
        for what, found in (("newly flagged", a.newly_examples), ("lost", a.lost_examples))
        for e in found
    )
    return Section(
        name="agreement",
        title="Agreement",
        status=Status.OK,
        summary=f"{entities}; {differ:,} flagged by one alone{sampled}",
        facts=(
            Fact(label="Coverage", value=a.coverage, kind=Kind.SHARE, note="scored by both, of all"),
            Fact(label="Flagged above", value=c.above, kind=Kind.NUMBER),
            Fact(label="Cohen's kappa", value=a.kappa, kind=Kind.NUMBER),
            Fact(label="Jaccard of flagged", value=a.jaccard, kind=Kind.NUMBER),
            Fact(label="Overlap of the top 10", value=a.top_overlap, kind=Kind.SHARE),
            Fact(label="p99 of |difference|", value=a.p99_difference, kind=Kind.SCORE),
        ),
        tables=(
            Table(
                title="Entities, once a cycle",
                columns=(
                    Column(label="What"),
                    Column(label=c.first.label, kind=Kind.COUNT),
                    Column(label=c.second.label, kind=Kind.COUNT),
                ),
                rows=(
                    ("with an output of this one alone", a.only_primary, a.only_shadow),
                    ("without a score here, with one there", a.null_in_primary, a.null_in_shadow),
                    ("flagged here, where both have a score", *flagged),
                    ("flagged here alone, where both have a score", a.lost, a.newly_flagged),
                    ("flagged here, where the other has no score", a.lost_unseen, a.flagged_unseen),
                ),
            ),
            Table(
                title="Where they differ most",
                columns=(
                    Column(label="Is"),
                    Column(label="Entity", kind=Kind.CODE),
                    Column(label=c.first.label, kind=Kind.SCORE),
                    Column(label=c.second.label, kind=Kind.SCORE),
                    Column(label="Cycle", kind=Kind.INSTANT),
                ),
                rows=tuple(examples),
                empty="no entity is flagged by one of two that both scored it",
            ),
        ),
    )  # fmt: skip


def _labelled(c: VersionComparison) -> Section:
    title = "Beside labels"
    if c.labelled is None:
        why = "no label that was known then is about a compared cycle"
        return Section(name="labels", title=title, status=Status.ATTENTION, summary=why)
    found = c.labelled
    labels = counted(found.units, "label")
    cells = ("True +", "False +", "False -", "True -")
    return Section(
        name="labels",
        title=title,
        status=Status.OK,
        summary=f"{labels}, {found.positives:,} of them positive; one label is one unit",
        facts=(
            Fact(label="Both right", value=found.both_right),
            Fact(label="Both wrong", value=found.both_wrong),
            Fact(label=f"Only {c.first.label} right", value=found.only_first_right),
            Fact(label=f"Only {c.second.label} right", value=found.only_second_right),
        ),
        tables=(
            Table(
                title=f"Confusion at {c.above:g}",
                columns=(
                    Column(label="Version", kind=Kind.CODE),
                    *(Column(label=label, kind=Kind.COUNT) for label in cells),
                    Column(label="No score", kind=Kind.COUNT, help="units without a score: not flagged"),
                ),
                rows=tuple(
                    (
                        label, r.true_positives, r.false_positives, r.false_negatives, r.true_negatives,
                        r.unscored,
                    )
                    for label, r in ((c.first.label, found.first), (c.second.label, found.second))
                ),
                note=f"{found.overlapped:,} labels do not count: another of the same entity overlaps them"
                if found.overlapped
                else "",
            ),
            Table(
                title="Figures with 95 % intervals",
                columns=(
                    Column(label="Version", kind=Kind.CODE),
                    *(Column(label=name) for name in ("Precision", "Recall", "F1", "Average precision")),
                ),
                rows=tuple(
                    (label, *map(_interval, _figures(r)))
                    for label, r in ((c.first.label, found.first), (c.second.label, found.second))
                ),
                note="Wilson (1927) for precision and recall, a bootstrap over labels for the others",
            ),
            _discordant(c, found),
        ),
    )  # fmt: skip


def _figures(record: LabelledRecord) -> tuple[Interval, ...]:
    return record.precision, record.recall, record.f1, record.average_precision


def _interval(figure: Interval) -> str:
    if figure.value is None:
        return ""
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _discordant(c: VersionComparison, found: LabelledComparison) -> Table:
    return Table(
        title="The latest labels about which one was right",
        columns=(
            Column(label="Right", kind=Kind.CODE),
            Column(label="Entity", kind=Kind.CODE),
            Column(label="Truth"),
            Column(label=c.first.label, kind=Kind.SCORE, help="highest score in the label's interval"),
            Column(label=c.second.label, kind=Kind.SCORE, help="highest score in the label's interval"),
        ),
        rows=tuple(
            (right, e.entity_id, "positive" if e.is_positive else "negative", e.first_score, e.second_score)
            for right, examples in (
                (c.second.label, found.won_examples),
                (c.first.label, found.lost_examples),
            )
            for e in examples
        ),
        empty="none: they were right or wrong together",
    )


_MARKS = {ConditionState.FAILED: Status.BAD, ConditionState.UNKNOWN: Status.ATTENTION}


def _gate(c: VersionComparison) -> Iterator[Section]:
    """The conditions of a promotion, each with its figure and its bound."""
    if c.decision is None:
        return
    conditions = c.decision.conditions
    enough = "enough" if c.decision.policy.unknown_is_enough else "not enough"
    passed, failed, unknown = (sum(n.state is state for n in conditions) for state in ConditionState)
    unjudged = f", {unknown} cannot be judged, which is {enough} for this model" if unknown else ""
    yield Section(
        name="gate",
        title=f"May {c.second.label} take the place of {c.first.label}?",
        status=Status.OK if c.decision.has_passed else Status.ATTENTION,
        summary=f"{passed} of {counted(len(conditions), 'condition')} passed, {failed} failed{unjudged}",
        facts=(
            Fact(label="Gate", value="passed" if c.decision.has_passed else "not passed", kind=Kind.TEXT),
        ),
        tables=(
            Table(
                columns=(
                    Column(label="Condition"),
                    Column(label="Is"),
                    Column(label="Figure"),
                    Column(label="Must be"),
                    Column(label="Because", weight=2),
                ),
                rows=tuple((n.name, str(n.state), _figure(n), n.bound, n.reason) for n in conditions),
                marks=tuple(_MARKS.get(n.state) for n in conditions),
            ),
        ),
    )


def _figure(condition: Condition) -> str | None:
    """Return a condition's figure with its unit, so that it is read as nothing else."""
    if condition.figure is None:
        return None
    kind = Kind.COUNT if float(condition.figure).is_integer() else Kind.NUMBER
    return f"{text(kind, condition.figure)} {condition.unit}".rstrip()


def _e_process(c: VersionComparison) -> Iterator[Section]:
    """The e-process: E, what it would take, and its curve."""
    if c.gate is None:
        return
    reading, bound = c.gate, 1 / c.gate.alpha
    drawn = tuple(math.exp(min(e, MAX_LOG_E)) for _, e in reading.curve)
    yield Section(
        name="e_process",
        title=f"Evidence that {c.second.label} is right more often",
        status=Status.OK if reading.has_passed else Status.ATTENTION,
        summary=_evidence(reading),
        facts=(
            Fact(label="E", value=e_text(reading.log_e), kind=Kind.TEXT, note=f"passes at {bound:g}"),
            Fact(label="E at its highest", value=e_text(reading.highest_log_e), kind=Kind.TEXT),
            Fact(label="Pairs won", value=reading.wins),
            Fact(label="Pairs lost", value=reading.losses),
        ),
        series=(
            Series(
                title="E after each label about which one was right",
                kind=Kind.NUMBER,
                at=tuple(str(pairs) for pairs, _ in reading.curve),
                lines=(
                    Line(label="E", values=drawn, hue=1),
                    Line(label=f"passes at {bound:g}", values=(bound,) * len(reading.curve), hue=5),
                ),
                counts="pairs",
                is_logarithmic=True,
            ),
        ),
    )  # fmt: skip


def _evidence(reading: GateReading) -> str:
    if reading.has_passed:
        return f"E has reached {1 / reading.alpha:g}"
    if reading.more_labels is None:
        return "at the rate so far no number of labels would be enough"
    return f"at the rate so far it would take about {reading.more_labels:,} more labels"


def e_text(log_e: float) -> str:
    """Return E, given as a natural logarithm, as text."""
    exponent = log_e / math.log(10)
    if -3 < exponent < 6:
        return f"{math.exp(log_e):,.3g}" if exponent < 3 else f"{math.exp(log_e):,.0f}"
    whole = math.floor(exponent)
    return f"{10 ** (exponent - whole):.1f}e{whole:+d}"
