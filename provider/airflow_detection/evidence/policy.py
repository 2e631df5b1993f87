"""The policy of a promotion: conditions that the evidence must meet, each with its figure and its bound."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_detection.errors import ConfigurationError, hint
from airflow_detection.evidence.gate import ALPHA

if TYPE_CHECKING:
    from airflow_detection.evidence.comparison import VersionComparison


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionPolicy:
    """What a challenger must show before it becomes champion; a model's registration sets what differs.

    Each field is explained in `POLICY_OPTIONS`.
    """

    min_cycles: int = 100
    min_coverage: float = 0.9
    max_alert_factor: float = 2.0
    max_duration_factor: float = 2.0
    verdict_cycles: int = 36
    alpha: float = ALPHA
    unknown_is_enough: bool = False
    rollback_on: tuple[str, ...] = ("FAILED", "SILENT_FAULT")
    rollback_after: int = 2

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> PromotionPolicy:  # Any: a JSON object
        """Check and take over; ConfigurationError names every wrong option and the reason."""
        if problems := [f"{key}: {reason}" for key, reason in policy_problems(options)]:
            raise ConfigurationError(f"promotion: {'; '.join(problems)}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class PolicyOption:
    """One option of a policy: what it means, and the bounds of one that is a number, both included."""

    means: str
    low: float = 0
    high: float = 0


POLICY_OPTIONS: Mapping[str, PolicyOption] = {
    "min_cycles": PolicyOption("Cycles that both completed, at least.", 1, 1_000_000),
    "min_coverage": PolicyOption("Share of the entities of either that both scored, at least.", 0, 1),
    "max_alert_factor": PolicyOption("Alerts of either are at most so many times the other's.", 1, 1_000_000),
    "max_duration_factor": PolicyOption(
        "Its median duration is at most so many times the champion's.", 0.001, 1_000_000
    ),
    "verdict_cycles": PolicyOption("No verdict on it is bad in so many of the latest cycles.", 1, 288),
    "alpha": PolicyOption("The evidence E reaches 1/alpha.", 1e-9, 0.5),
    "unknown_is_enough": PolicyOption("Whether a condition that cannot be judged stands in nobody's way."),
    "rollback_on": PolicyOption("Once it is in force, the verdicts that count against it."),
    "rollback_after": PolicyOption("So many of them in successive cycles take the promotion back.", 1, 288),
}
BAD_VERDICTS = (
    "DID_NOT_RUN", "FAILED", "SKIPPED_UPSTREAM", "SILENT_FAULT", "INPUT_DEGRADED", "SUSPECT", "SURGE",
)  # fmt: skip
"""Kinds of verdicts that may take a promotion back."""


def policy_problems(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:  # Any: a JSON object
    """Iterate over the wrong options and the reason for each, in order of name."""
    kinds = {field.name: type(field.default) for field in fields(PromotionPolicy)}
    for key, value in sorted(options.items()):
        if key not in kinds:
            yield key, f"unknown option{hint(key, kinds)}"
        elif kinds[key] is bool:
            if not isinstance(value, bool):
                yield key, f"must be true or false, not {reprlib.repr(value)}"
        elif kinds[key] is tuple:
            if not isinstance(value, list) or not value or not all(v in BAD_VERDICTS for v in value):
                yield key, f"must be a list of {', '.join(BAD_VERDICTS)}, not {reprlib.repr(value)}"
        else:
            low, high = POLICY_OPTIONS[key].low, POLICY_OPTIONS[key].high
            is_number = isinstance(value, int if kinds[key] is int else (int, float))
            if not is_number or isinstance(value, bool) or not low <= value <= high:
                kind = "a whole number" if kinds[key] is int else "a number"
                yield key, f"must be {kind} from {low:.10g} to {high:.10g}, not {reprlib.repr(value)}"


class ConditionState(StrEnum):
    """How a condition stands."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"  # it cannot be judged: there is nothing to judge by


UNKNOWN = ConditionState.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition: its figure (None: there is none) with its unit, and what it must be."""

    name: str
    state: ConditionState
    figure: float | None
    unit: str
    bound: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """What the policy says of a comparison, the first version of which is the champion."""

    policy: PromotionPolicy
    conditions: tuple[Condition, ...]
    has_passed: bool


def judge_promotion(comparison: VersionComparison, policy: PromotionPolicy) -> GateDecision:
    """Judge the second version of a comparison as the challenger of the first."""
    conditions = (
        _cycles(comparison, policy),
        _coverage(comparison, policy),
        _alerts(comparison, policy),
        _duration(comparison, policy),
        _verdicts(comparison, policy),
        _canaries(comparison),
        _evidence(comparison, policy),
    )
    enough = {ConditionState.PASSED} | ({UNKNOWN} if policy.unknown_is_enough else set())
    has_passed = all(condition.state in enough for condition in conditions)
    return GateDecision(policy=policy, conditions=conditions, has_passed=has_passed)


def _condition(
    name: str,
    state: ConditionState | bool,  # noqa: FBT001 - whether it is met, or that nobody knows
    figure: float | None,
    bound: str,
    reason: str,
    *,
    unit: str,
) -> Condition:
    if isinstance(state, bool):
        state = ConditionState.PASSED if state else ConditionState.FAILED
    return Condition(name=name, state=state, figure=figure, unit=unit, bound=bound, reason=reason)


def _cycles(c: VersionComparison, policy: PromotionPolicy) -> Condition:
    reason = f"{c.cycles} cycles were completed by both, {c.replayed} of them with a replay"
    bound = f"at least {policy.min_cycles}"
    return _condition("cycles", c.cycles >= policy.min_cycles, c.cycles, bound, reason, unit="cycles")


def _coverage(c: VersionComparison, policy: PromotionPolicy) -> Condition:
    share, bound = c.agreement.coverage, f"at least {policy.min_coverage:g}"
    unit = "of the entities"
    if share is None:
        return _condition("coverage", UNKNOWN, None, bound, "there is no entity to compare", unit=unit)
    reason = f"both scored {c.agreement.scored} of {c.agreement.entities} entities"
    return _condition("coverage", share >= policy.min_coverage, share, bound, reason, unit=unit)


def _alerts(c: VersionComparison, policy: PromotionPolicy) -> Condition:
    factor, unit = policy.max_alert_factor, "times the champion's"
    bound = f"{1 / factor:.3g} to {factor:g} times the champion's"
    ratio = _ratio(c.second.alerts, c.first.alerts)
    reason = f"{c.second.alerts} alerts, and {c.first.alerts} of the champion"
    if not c.cycles:
        return _condition("alert volume", UNKNOWN, None, bound, "no cycle was completed by both", unit=unit)
    return _condition("alert volume", 1 / factor <= ratio <= factor, ratio, bound, reason, unit=unit)


def _duration(c: VersionComparison, policy: PromotionPolicy) -> Condition:
    bound = f"at most {policy.max_duration_factor:g} times the champion's"
    own, champion, unit = c.second.median_ms, c.first.median_ms, "times the champion's"
    if own is None or champion is None:
        return _condition("duration", UNKNOWN, None, bound, "no cycle was completed by both", unit=unit)
    ratio = _ratio(own, champion)
    reason = f"a median of {own:.0f} ms, and {champion:.0f} ms of the champion"
    return _condition("duration", ratio <= policy.max_duration_factor, ratio, bound, reason, unit=unit)


def _verdicts(c: VersionComparison, policy: PromotionPolicy) -> Condition:
    bound = f"no bad verdict in the latest {policy.verdict_cycles} cycles"
    since, bad, unit = c.second.cycles_since_bad, c.second.last_bad_verdict, "cycles since the last bad one"
    if not c.second.judged:
        return _condition("verdicts", UNKNOWN, None, bound, "no cycle of it was judged", unit=unit)
    if since is None or bad is None:
        return _condition("verdicts", True, None, bound, f"none is bad of {c.second.judged}", unit=unit)
    reason = f"{bad.kind} at {bad.at.isoformat()}: {bad.reason}"
    return _condition("verdicts", since >= policy.verdict_cycles, since, bound, reason, unit=unit)


def _canaries(c: VersionComparison) -> Condition:
    wrong, bound, unit = c.second.wrong_canaries, "none is wrong", "wrong"
    if not c.second.canaries:
        return _condition("canaries", UNKNOWN, None, bound, "it has no canaries", unit=unit)
    last = f", the last: {c.second.last_wrong_canary}" if wrong else ""
    reason = f"{wrong} of {c.second.canaries} are wrong{last}"
    return _condition("canaries", not wrong, wrong, bound, reason, unit=unit)


def _evidence(c: VersionComparison, policy: PromotionPolicy) -> Condition:
    bound, unit = f"E is at least {1 / policy.alpha:.6g}", ""
    if c.gate is None:
        return _condition("evidence", UNKNOWN, None, bound, "no label is about a compared cycle", unit=unit)
    more = c.gate.more_labels
    to_go = "" if not more else f"; about {more} more labels at the rate so far"
    reason = f"{c.gate.wins} pairs won and {c.gate.losses} lost of {c.gate.units} labels{to_go}"
    is_met = c.gate.log_e >= -math.log(policy.alpha)
    return _condition("evidence", is_met, c.gate.e, bound, reason, unit=unit)


def _ratio(own: float, champion: float) -> float:
    if champion:
        return own / champion
    return math.inf if own else 1.0
