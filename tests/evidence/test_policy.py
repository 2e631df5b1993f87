"""The conditions of a promotion: each passed, failed or unknown, with its figure and its bound."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_detection.errors import ConfigurationError
from airflow_detection.evidence.agreement import Comparison
from airflow_detection.evidence.comparison import BadVerdict, VersionComparison, VersionRecord
from airflow_detection.evidence.gate import read_gate
from airflow_detection.evidence.policy import (
    BAD_VERDICTS,
    Condition,
    ConditionState,
    PromotionPolicy,
    judge_promotion,
)
from airflow_detection.snapshot.verdicts.kinds import VerdictKind

AT = datetime(2026, 3, 1, tzinfo=UTC)
PASSED, FAILED, UNKNOWN = ConditionState.PASSED, ConditionState.FAILED, ConditionState.UNKNOWN
BAD = BadVerdict(at=AT, kind="SILENT_FAULT", reason="stuck", is_replay=False)
CHAMPION = VersionRecord(
    version_id=1, label="m@1", role="PRIMARY", alerts=100, median_ms=50.0, canaries=9, judged=100
)
CHALLENGER = replace(CHAMPION, version_id=2, label="m@2", role="CHALLENGER")


def comparison(second: dict[str, Any] | None = None, **fields: Any) -> VersionComparison:
    """A comparison that meets every default condition, but for what a test changes."""
    given: dict[str, Any] = {
        "model_id": "m", "cycle_id": "c", "first": CHAMPION, "second": replace(CHALLENGER, **(second or {})),
        "start": None, "end": AT, "known_at": AT, "above": 0.5, "cycles": 200, "only_first_cycles": 0,
        "only_second_cycles": 0, "replayed": 0, "first_cycle": AT, "last_cycle": AT,
        "agreement": Comparison(cycles=200, entities=1000, in_both=990, scored=990),
        "gate": read_gate([True] * 9, units=40),
    } | fields  # fmt: skip
    return VersionComparison(**given)


def condition(name: str, of: VersionComparison, **policy: Any) -> Condition:
    decision = judge_promotion(of, PromotionPolicy(**policy))
    return next(c for c in decision.conditions if c.name == name)


def test_what_meets_every_condition_passes() -> None:
    decision = judge_promotion(comparison(), PromotionPolicy())
    assert [(c.name, c.state) for c in decision.conditions] == [
        ("cycles", PASSED), ("coverage", PASSED), ("alert volume", PASSED), ("duration", PASSED),
        ("verdicts", PASSED), ("canaries", PASSED), ("evidence", PASSED),
    ]  # fmt: skip
    assert decision.has_passed


@pytest.mark.parametrize(
    ("name", "changed", "state", "figure"),
    [
        ("cycles", {"cycles": 100}, PASSED, 100),
        ("cycles", {"cycles": 99}, FAILED, 99),
        ("coverage", {"agreement": Comparison(cycles=1, entities=100, scored=90)}, PASSED, 0.9),
        ("coverage", {"agreement": Comparison(cycles=1, entities=100, scored=89)}, FAILED, 0.89),
        ("coverage", {"agreement": Comparison(cycles=0)}, UNKNOWN, None),
        ("alert volume", {"second": {"alerts": 200}}, PASSED, 2.0),
        ("alert volume", {"second": {"alerts": 201}}, FAILED, 2.01),
        ("alert volume", {"second": {"alerts": 50}}, PASSED, 0.5),
        ("alert volume", {"second": {"alerts": 49}}, FAILED, 0.49),
        ("alert volume", {"first": replace(CHAMPION, alerts=0)}, FAILED, math.inf),
        ("alert volume", {"first": replace(CHAMPION, alerts=0), "second": {"alerts": 0}}, PASSED, 1.0),
        ("alert volume", {"cycles": 0}, UNKNOWN, None),
        ("duration", {"second": {"median_ms": 100.0}}, PASSED, 2.0),
        ("duration", {"second": {"median_ms": 101.0}}, FAILED, 2.02),
        ("duration", {"second": {"median_ms": None}}, UNKNOWN, None),
        ("verdicts", {"second": {"cycles_since_bad": 36, "last_bad_verdict": BAD}}, PASSED, 36),
        ("verdicts", {"second": {"cycles_since_bad": 35, "last_bad_verdict": BAD}}, FAILED, 35),
        ("verdicts", {"second": {"judged": 0}}, UNKNOWN, None),
        ("canaries", {"second": {"wrong_canaries": 1}}, FAILED, 1),
        ("canaries", {"second": {"canaries": 0}}, UNKNOWN, None),
        ("evidence", {"gate": read_gate([True] * 7, units=40)}, PASSED, 255 / 8),
        ("evidence", {"gate": read_gate([True] * 6, units=40)}, FAILED, 127 / 7),
        ("evidence", {"gate": None}, UNKNOWN, None),
    ],
)
def test_each_condition_has_its_bound(
    name: str, changed: dict[str, Any], state: ConditionState, figure: float | None
) -> None:
    found = condition(name, comparison(**changed))
    assert found.state is state
    assert found.figure == (figure if figure is None else pytest.approx(figure))
    decision = judge_promotion(comparison(**changed), PromotionPolicy())
    assert decision.has_passed is (state is PASSED)


def test_unknown_is_enough_where_the_policy_says_so_and_failed_never_is() -> None:
    lenient = PromotionPolicy(unknown_is_enough=True)
    assert judge_promotion(comparison(gate=None), lenient).has_passed
    assert not judge_promotion(comparison(gate=None), PromotionPolicy()).has_passed
    assert not judge_promotion(comparison(gate=None, cycles=1), lenient).has_passed


def test_conditions_say_what_is_missing() -> None:
    labels = condition("evidence", comparison(gate=read_gate([True] * 6 + [False] * 3, units=90)))
    assert labels.bound == "E is at least 20"
    assert labels.reason.startswith("6 pairs won and 3 lost of 90 labels; about ")
    assert condition("evidence", comparison(), alpha=0.01).bound == "E is at least 100"
    verdict = condition("verdicts", comparison(second={"cycles_since_bad": 3, "last_bad_verdict": BAD}))
    assert verdict.reason == "SILENT_FAULT at 2026-03-01T00:00:00+00:00: stuck"
    assert verdict.bound == "no bad verdict in the latest 36 cycles"
    assert (verdict.figure, verdict.unit) == (3, "cycles since the last bad one")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"min_cycle": 1}, "promotion: min_cycle: unknown option; the nearest name is 'min_cycles'"),
        ({"min_cycles": 0}, "promotion: min_cycles: must be a whole number from 1 to 1000000, not 0"),
        ({"min_cycles": 1.5}, "min_cycles: must be a whole number from 1 to 1000000, not 1.5"),
        ({"min_cycles": True}, "min_cycles: must be a whole number from 1 to 1000000, not True"),
        ({"min_coverage": 1.1}, "min_coverage: must be a number from 0 to 1, not 1.1"),
        ({"min_coverage": float("nan")}, "min_coverage: must be a number from 0 to 1, not nan"),
        ({"max_alert_factor": 0.5}, "max_alert_factor: must be a number from 1 to 1000000, not 0.5"),
        ({"alpha": 0}, "alpha: must be a number from 1e-09 to 0.5, not 0"),
        ({"alpha": "0.05"}, "alpha: must be a number from 1e-09 to 0.5, not '0.05'"),
        ({"rollback_after": 0}, "rollback_after: must be a whole number from 1 to 288, not 0"),
        ({"rollback_on": "FAILED"}, "rollback_on: must be a list of DID_NOT_RUN, FAILED, "),
        ({"rollback_on": []}, "rollback_on: must be a list of "),
        ({"rollback_on": ["OK"]}, "SUSPECT, SURGE, not ['OK']"),
        ({"rollback_on": [["FAILED"]]}, "rollback_on: must be a list of "),
        ({"unknown_is_enough": 1}, "unknown_is_enough: must be true or false, not 1"),
        (
            {"alpha": 1, "verdict_cycles": 0},
            "alpha: must be a number from 1e-09 to 0.5, not 1; verdict_cycles: ",
        ),
    ],
)
def test_a_wrong_policy_is_refused_with_its_bound(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PromotionPolicy.of(options)
    assert reason in str(caught.value)


def test_a_policy_takes_what_differs_from_the_defaults() -> None:
    assert PromotionPolicy.of({}) == PromotionPolicy()
    assert PromotionPolicy.of({"min_coverage": 1}).min_coverage == 1
    assert PromotionPolicy.of({"rollback_on": ["SURGE"]}).rollback_on == ("SURGE",)
    assert PromotionPolicy.of({"alpha": 0.5, "unknown_is_enough": True}).unknown_is_enough


def test_every_bad_verdict_may_take_a_promotion_back_and_no_other() -> None:
    assert tuple(kind.value for kind in VerdictKind if kind.is_bad) == BAD_VERDICTS
    assert set(PromotionPolicy().rollback_on) < set(BAD_VERDICTS)
