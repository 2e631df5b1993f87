"""The judgement of a challenger as people read it: what is not met, the bars of E, text of others."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from tests import sample_registry
from tests.evidence.test_policy import AT, comparison

from airflow_detection.errors import PromotionError
from airflow_detection.evidence.agreement import Comparison, Example
from airflow_detection.evidence.gate import read_gate
from airflow_detection.evidence.policy import PromotionPolicy, judge_promotion
from airflow_detection.promotion.judgement import Judgement, bars, judge
from airflow_detection.store.database import Database

HOSTILE = "<script>alert(1)</script>|![x](http://x)\n# title\x1b]0;owned\u202e`code`{{ 7*7 }}"


def judged(policy: dict[str, Any] | None = None, reason: str = "", **fields: Any) -> Judgement:
    compared = comparison(**fields)
    decision = judge_promotion(compared, PromotionPolicy(**(policy or {})))
    return Judgement(comparison=replace(compared, decision=decision), reason=reason)


def test_a_challenger_that_meets_the_policy_is_not_refused() -> None:
    passed = judged(reason="fewer false alarms")
    assert (passed.is_passed, passed.refusal) == (True, "")
    body = passed.markdown()
    assert body.startswith("`m@2` in place of `m@1`, over 200 cycles, as known at\n2026-03-01 00:00:00 UTC.")
    assert "Reason given: fewer false alarms" in body
    assert body.count("✓\N{NO-BREAK SPACE}passed") == 7


def test_a_refusal_names_each_condition_that_is_not_met_and_no_other() -> None:
    refused = judged(gate=None, cycles=3)
    assert refused.refusal == (
        "cycles: 3 cycles were completed by both, 0 of them with a replay (must be: at least 100); "
        "evidence: no label is about a compared cycle (must be: E is at least 20)"
    )
    assert refused.markdown().startswith("**The policy refuses this promotion.** cycles: 3 cycles were ")
    assert judged({"unknown_is_enough": True}, gate=None).refusal == ""
    assert list(refused.lines())[1].startswith("  failed   cycles: 3 cycles")


def test_bars_are_empty_at_the_beginning_and_full_where_it_passes() -> None:
    drawn = bars(read_gate([True] * 9, units=40))
    assert (drawn[0], drawn[-1], len(drawn)) == ("▁", "█", 10)
    assert set(bars(read_gate([False] * 300, units=300))) == {"▁"}
    assert len(bars(read_gate([True, False] * 500, units=1000))) <= 48


def test_text_of_others_stays_text_in_the_body() -> None:
    example = Example(at=AT, entity_id=HOSTILE, primary_score=0.1, shadow_score=0.9)
    agreement = Comparison(cycles=200, entities=1000, in_both=990, scored=990, newly_examples=(example,))
    body = judged(reason=HOSTILE, agreement=agreement).markdown()
    assert "\x1b" not in body
    assert "\u202e" not in body
    assert "\n# title" not in body
    paragraph = next(line for line in body.splitlines() if line.startswith("Reason given: "))
    assert "\\<script>" in paragraph
    assert "!\\[x" in paragraph
    row = next(line for line in body.splitlines() if "alert(1)" in line and line.startswith("|"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 5, "five borders, as in every row of this table"


def test_a_model_without_a_champion_has_nothing_to_be_judged_by(database: Any) -> None:
    sample_registry.register(database)
    sample_registry.put_model(database, "alone")
    sample_registry.put_version(database, "alone@1")
    with pytest.raises(PromotionError, match="alone@1 cannot be judged: alone has no PRIMARY"):
        judge(Database(database, sample_registry.SCHEMA), "alone@1")
