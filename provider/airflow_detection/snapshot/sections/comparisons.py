"""Comparison of each champion with the shadows and challengers of its model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from airflow_detection.evidence.agreement import Comparison
from airflow_detection.snapshot.rendering.formats import counted
from airflow_detection.snapshot.report import Cell, Column, Fact, Kind, Status, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Scope
from airflow_detection.store.comparisons import Pair, compare, pairs, thresholds

MAX_OUTPUTS = 12_000_000
"""Outputs read at most for one report: beyond it evenly spaced cycles are compared, and a note says so."""
LOW_COVERAGE = 0.9
MAX_EXAMPLES = {"hourly": 3, "diagnostic": 10}
Compared = tuple[Pair, Comparison, float]
"""The last is the threshold of the model: a score above it flags its entity."""


class Comparisons(BaseSection):
    """Coverage, then agreement: outputs that only one of the two scored cannot be compared."""

    name, title = "comparisons", "PRIMARY beside SHADOW and CHALLENGER"

    def query(self, scope: Scope) -> list[Compared]:
        """Return the pairs that ran, compared over the cycles that both completed."""
        rows = partial(scope.rows, file="comparisons")
        compared_pairs = pairs(rows, scope.start, scope.end)
        outputs = sum(pair.outputs for pair in compared_pairs)
        every = -(-outputs // MAX_OUTPUTS) or 1
        above = thresholds(rows)
        examples = MAX_EXAMPLES[scope.kind]
        comparisons = compare(rows, compared_pairs, above=above, every=every, examples=examples)
        return [(p, c, above[p.model_id]) for p, c in zip(compared_pairs, comparisons, strict=True)]

    def render(self, data: list[Compared], scope: Scope) -> Findings:
        """Show coverage, agreement, and the entities on which they differ."""
        del scope
        marks = tuple(_mark(pair, c) for pair, c, _ in data)
        low_coverage = sum(m is not None for m in marks)
        changed = sum(c.newly_flagged + c.lost for _, c, _ in data)
        entities = counted(changed, "entity", "entities")
        summary = f"{counted(len(data), 'pair')}; {entities} flagged by one of two alone"
        if low_coverage:
            summary += f"; low coverage in {counted(low_coverage, 'pair')}"
        sampled = [f"{p.model_id}@{p.shadow_version}" for p, c, _ in data if c.cycles < len(p.cycles)]
        return Findings(
            status=Status.ATTENTION if low_coverage else Status.OK,
            summary=summary if data else "no shadow or challenger ran beside its champion",
            facts=(
                Fact(label="Pairs", value=len(data)),
                Fact(label="Newly flagged", value=sum(c.newly_flagged for _, c, _ in data)),
                Fact(label="Lost", value=sum(c.lost for _, c, _ in data)),
                Fact(
                    label="Low coverage",
                    value=low_coverage,
                    status=Status.ATTENTION if low_coverage else None,
                ),
            ),
            tables=(
                _coverage(data, marks, "; ".join(sampled)),
                _agreement(data),
                *_examples(data),
            )
            if data
            else (),
        )


def _mark(pair: Pair, c: Comparison) -> Status | None:
    few_cycles = pair.primary_cycles and len(pair.cycles) / pair.primary_cycles < LOW_COVERAGE
    few_entities = c.coverage is not None and c.in_both < LOW_COVERAGE * c.entities
    few_scores = c.in_both and (c.null_in_shadow + c.null_in_primary) > (1 - LOW_COVERAGE) * c.in_both
    return Status.ATTENTION if few_cycles or few_entities or few_scores else None


def _names(pair: Pair) -> tuple[Cell, ...]:
    return (f"{pair.model_id}@{pair.shadow_version}", pair.role, pair.primary_version)


_NAMES = (
    Column(label="Version", kind=Kind.CODE),
    Column(label="Role", weight=3),
    Column(label="Beside", kind=Kind.CODE, weight=2, help="the champion's version"),
)


def _coverage(compared: Sequence[Compared], marks: tuple[Status | None, ...], sampled: str) -> Table:
    return Table(
        title="Coverage",
        columns=(
            *_NAMES,
            Column(
                label="Cycles", kind=Kind.SHARE, help="of the champion's cycles, those that both completed"
            ),
            Column(
                label="In both",
                kind=Kind.SHARE,
                help="of all entities of either, those with an output of both",
            ),
            Column(label="Only PRIMARY", kind=Kind.COUNT, weight=2),
            Column(label="Only this", kind=Kind.COUNT, weight=2),
            Column(
                label="Null here",
                kind=Kind.COUNT,
                weight=2,
                help="the champion knows a score, this one does not",
            ),
            Column(
                label="Null there",
                kind=Kind.COUNT,
                weight=3,
                help="this one knows a score, the champion does not",
            ),
            Column(label="Scored by both", kind=Kind.COUNT),
        ),
        rows=tuple(
            (
                *_names(pair),
                len(pair.cycles) / pair.primary_cycles if pair.primary_cycles else None,
                c.in_both / c.entities if c.entities else None,
                c.only_primary,
                c.only_shadow,
                c.null_in_shadow,
                c.null_in_primary,
                c.scored,
            )
            for pair, c, _ in compared
        ),
        marks=marks,
        note=f"not every cycle was compared, but evenly chosen ones: {sampled}" if sampled else "",
    )


def _agreement(compared: Sequence[Compared]) -> Table:
    return Table(
        title="Agreement, where both know a score",
        columns=(
            *_NAMES,
            Column(label="Newly flagged", kind=Kind.COUNT, help="flagged here, not in the champion"),
            Column(label="Lost", kind=Kind.COUNT, help="flagged in the champion, not here"),
            Column(
                label="Above", kind=Kind.NUMBER, weight=2, help="the model's threshold: above it is flagged"
            ),
            Column(label="Kappa", kind=Kind.NUMBER, help="Cohen's kappa of flagged or not"),
            Column(label="Jaccard", kind=Kind.NUMBER, weight=2, help="flagged by both, of flagged by either"),
            Column(
                label="Top 10",
                kind=Kind.SHARE,
                weight=2,
                help="overlap of the ten highest scores, mean of cycles",
            ),
            Column(label="p99 |diff|", kind=Kind.SCORE, weight=2),
            Column(label="Took", kind=Kind.MS, weight=2, help="median"),
            Column(label="PRIMARY took", kind=Kind.MS, weight=3, help="median"),
            Column(label="p95", kind=Kind.MS, weight=3),
        ),
        rows=tuple(
            (
                *_names(pair),
                c.newly_flagged,
                c.lost,
                above,
                c.kappa,
                c.jaccard,
                c.top_overlap,
                c.p99_difference,
                pair.shadow_ms[0] if pair.shadow_ms else None,
                pair.primary_ms[0] if pair.primary_ms else None,
                pair.shadow_ms[1] if pair.shadow_ms else None,
            )
            for pair, c, above in compared
        ),
    )


def _examples(compared: Sequence[Compared]) -> list[Table]:
    rows = tuple(
        (
            f"{pair.model_id}@{pair.shadow_version}",
            difference,
            example.entity_id,
            example.primary_score,
            example.shadow_score,
            example.at.isoformat(),
        )
        for pair, c, _ in compared
        for difference, examples in (("newly flagged", c.newly_examples), ("lost", c.lost_examples))
        for example in examples
    )
    if not rows:
        return []
    return [
        Table(
            title="Where they differ most",
            columns=(
                Column(label="Version", kind=Kind.CODE),
                Column(label="Is"),
                Column(label="Entity", kind=Kind.CODE),
                Column(label="PRIMARY", kind=Kind.SCORE),
                Column(label="This one", kind=Kind.SCORE),
                Column(label="Cycle", kind=Kind.INSTANT, weight=3),
            ),
            rows=rows,
        )
    ]
