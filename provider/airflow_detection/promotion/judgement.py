"""The evidence for a promotion, judged by the model's policy, and its text for the person who decides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_detection.domain.links import curve_image, page
from airflow_detection.domain.markdown import cell, code, prose
from airflow_detection.domain.text import cut
from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.errors import PromotionError
from airflow_detection.evidence.comparison import VersionComparison
from airflow_detection.evidence.gate import GateReading
from airflow_detection.evidence.policy import Condition, ConditionState
from airflow_detection.snapshot.comparison import compare_versions
from airflow_detection.store import promotions, registry
from airflow_detection.store.database import Database

MAX_EXAMPLES = 10
BARS = 48
_BARS = "▁▂▃▄▅▆▇█"
MAX_CELL, MAX_TEXT = 200, 2000
"""Characters of an entity id and of a reason in the body of an approval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A challenger beside the champion, and what the model's policy says of it."""

    comparison: VersionComparison
    reason: str = ""

    @property
    def is_passed(self) -> bool:
        """Tell whether every condition of the policy is met."""
        return self.comparison.decision is not None and self.comparison.decision.has_passed

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions of the policy."""
        return self.comparison.decision.conditions if self.comparison.decision else ()

    @property
    def refusal(self) -> str:
        """The conditions that are not met, as one sentence; empty where all are."""
        if self.comparison.decision is None or self.is_passed:
            return ""
        unknown_is_enough = self.comparison.decision.policy.unknown_is_enough
        unmet = (
            condition
            for condition in self.conditions
            if condition.state is ConditionState.FAILED
            or (condition.state is ConditionState.UNKNOWN and not unknown_is_enough)
        )
        return "; ".join(f"{c.name}: {c.reason} (must be: {c.bound})" for c in unmet)

    @property
    def evidence(self) -> Mapping[str, Any]:  # Any: JSON values
        """The whole comparison as JSON, as the registry keeps it."""
        return self.comparison.to_json()

    def lines(self) -> Iterator[str]:
        """Yield one line for each condition, for a terminal."""
        c = self.comparison
        yield f"{c.second.label} beside {c.first.label}, {c.cycles} cycles, known at {c.known_at.isoformat()}"
        for condition in self.conditions:
            yield f"  {condition.state:<8} {condition.name}: {condition.reason} (must be: {condition.bound})"

    @property
    def page(self) -> str:
        """The address of the page that compares the two, over the cycles that were judged."""
        c = self.comparison
        return page(
            "compare", first=c.first.label, second=c.second.label, start=c.first_cycle, end=c.end,
            known_at=c.known_at,
        )  # fmt: skip

    def markdown(self, promotion_id: int | None = None) -> str:
        """Return the body of the approval: conditions, curve of E, entities on which the two differ.

        Args:
            promotion_id: the promotion whose evidence it is: the pages draw its curve.
        """
        return "\n".join(_markdown(self, promotion_id))


def judge(
    db: Database,
    label: str,
    *,
    reason: str = "",
    thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
    use_model_registry: bool = True,
) -> Judgement:
    """Compare a version with the champion of its model over all cycles that both completed, as known now.

    Raises:
        PromotionError: the model has no champion to compare with.
        PlanError: the version is not registered, or is the champion.
        ConfigurationError: numpy or scipy is not installed, or the model's policy is wrong.
    """
    model_id = label.partition("@")[0]
    champion_id = promotions.champion_id(db, model_id)
    champion = next((v for v in registry.versions(db, model_id) if v.version_id == champion_id), None)
    if champion is None:
        raise PromotionError(f"{label} cannot be judged: {model_id} has no PRIMARY to compare with")
    comparison = compare_versions(
        db, champion.label, label, thresholds=thresholds, use_model_registry=use_model_registry
    )
    return Judgement(comparison=comparison, reason=reason)


_MARKS = {
    ConditionState.PASSED: "✓\N{NO-BREAK SPACE}passed",
    ConditionState.FAILED: "✗\N{NO-BREAK SPACE}failed",
    ConditionState.UNKNOWN: "?\N{NO-BREAK SPACE}unknown",
}


def _markdown(judgement: Judgement, promotion_id: int | None) -> Iterator[str]:
    c = judgement.comparison
    if judgement.refusal:
        yield f"**The policy refuses this promotion.** {prose(cut(judgement.refusal, MAX_TEXT))}"
        yield ""
    yield f"{code(c.second.label)} in place of {code(c.first.label)}, over {c.cycles:,} cycles, as known at"
    yield f"{c.known_at:%Y-%m-%d %H:%M:%S} UTC."
    if judgement.reason:
        yield ""
        yield f"Reason given: {prose(cut(judgement.reason, MAX_TEXT))}"
    yield ""
    yield "| Condition | Is | Because | Must be |"
    yield "|---|---|---|---|"
    for n in judgement.conditions:
        yield f"| {n.name} | {_MARKS[n.state]} | {cell(cut(n.reason, MAX_CELL))} | {n.bound} |"
    if c.gate is not None:
        yield ""
        pairs = c.gate.wins + c.gate.losses
        yield f"E after each of {pairs:,} labels about which one of the two was right; the bars are"
        yield f"full at {1 / c.gate.alpha:g}, where it passes: `{bars(c.gate)}`"
        if promotion_id is not None:
            yield ""
            yield f"![The curve of E against the bound]({curve_image(promotion_id)})"
    yield ""
    yield f"[The whole comparison]({judgement.page})"
    yield ""
    yield from _differences(c)


def bars(reading: GateReading) -> str:
    """Return the curve of E as bars: empty up to E = 1, full from 1/alpha on, between them by ln E."""
    bound = -math.log(reading.alpha)
    step = max(1, -(-len(reading.curve) // BARS))
    heights = (max(0.0, min(1.0, log_e / bound)) for _, log_e in reading.curve[step - 1 :: step])
    return "".join(_BARS[round(height * (len(_BARS) - 1))] for height in heights)


def _differences(c: VersionComparison) -> Iterator[str]:
    """Yield tables of the labelled units and of the entities on which the two differ."""
    if c.labelled is not None and (c.labelled.won_examples or c.labelled.lost_examples):
        yield "| Label: entity | Truth | Champion | Challenger |"
        yield "|---|---|---|---|"
        for e in (*c.labelled.won_examples, *c.labelled.lost_examples)[:MAX_EXAMPLES]:
            truth = "positive" if e.is_positive else "negative"
            scores = f"{_score(e.first_score)} | {_score(e.second_score)}"
            yield f"| {cell(cut(e.entity_id, MAX_CELL))} | {truth} | {scores} |"
        yield ""
    examples = (*c.agreement.newly_examples, *c.agreement.lost_examples)[:MAX_EXAMPLES]
    if examples:
        yield "| Flagged by one alone: entity | Champion | Challenger | Cycle |"
        yield "|---|---|---|---|"
        for x in examples:
            scores = f"{_score(x.primary_score)} | {_score(x.shadow_score)}"
            yield f"| {cell(cut(x.entity_id, MAX_CELL))} | {scores} | {x.at:%Y-%m-%d %H:%M} |"


def _score(score: float | None) -> str:
    return "none" if score is None else f"{score:.3f}"
