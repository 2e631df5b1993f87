"""Models that judge cards: a rule, a velocity, a robust z-score, and one that puts them together."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.specs import Cycle
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult

MAD_TO_SIGMA = 1.4826
"""A median absolute deviation times this is the standard deviation of a normal distribution."""
LEAST_SIGMA = 0.2
"""Amounts of a card that always pays the same still differ by some 20 percent, as ln(amount)."""


def by_card(rows: Iterable[JsonMapping]) -> dict[str, list[JsonMapping]]:
    """Return the rows of each card, in order of time."""
    cards: dict[str, list[JsonMapping]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["paid_s"]):
        cards[row["card"]].append(row)
    return cards


def result(scores: dict[str, tuple[float | None, JsonMapping]], ctx: ModelContext) -> ModelResult:
    """Return one output for each card: its score, null where it cannot be known, and the evidence."""
    return ModelResult(
        outputs_per_input=[
            ({"card": card}, {"card": card, "score": score, "evidence": evidence})
            for card, (score, evidence) in scores.items()
        ],
        features={name: ctx.inputs[name] for name in ("paid_s", "amount")} if len(ctx.inputs) else {},
    )


def canary(
    name: str, expected: float | None, cycle: Cycle, payments: Iterable[tuple[float, float, str]]
) -> Canary:
    """Return a card that travels with each run: payments as (minute of the window, amount, country)."""
    card, start = f"canary:{name}", cycle.window.start.timestamp()
    rows = tuple(
        {"card": card, "paid_s": start + 60 * minute, "amount": amount, "country": country}
        for minute, amount, country in payments
    )
    return Canary(entity_id=card, rows=rows, expected=expected)


class TwoCountries(BaseDetectionModel):
    """Rule: a card is not in two countries within `within_min` minutes. Score 0.9, else 0."""

    shard_by = "entity"

    def run(self, ctx: ModelContext) -> ModelResult:
        """Look at each pair of payments that follow each other."""
        scores: dict[str, tuple[float | None, JsonMapping]] = {}
        for card, rows in by_card(ctx.inputs.rows()).items():
            hops = [
                {
                    "from": a["country"],
                    "to": b["country"],
                    "minutes": round((b["paid_s"] - a["paid_s"]) / 60, 1),
                }
                for a, b in pairwise(rows)
                if a["country"] != b["country"] and b["paid_s"] - a["paid_s"] <= 60 * ctx.params["within_min"]
            ]
            scores[card] = (0.9 if hops else 0.0, {"hops": hops})
        return result(scores, ctx)

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """Two countries in a minute, and one country."""
        yield canary("two_countries", 0.9, cycle, [(0, 20, "PT"), (1, 20, "JP")])
        yield canary("one_country", 0.0, cycle, [(0, 20, "PT"), (1, 20, "PT")])


class Velocity(BaseDetectionModel):
    """Payments of a card within `minutes`: at `limit` of them the score is 0.5, at twice as many 1."""

    shard_by = "entity"

    def run(self, ctx: ModelContext) -> ModelResult:
        """Count, for each payment, those of the minutes before it; the most of them make the score."""
        scores: dict[str, tuple[float | None, JsonMapping]] = {}
        for card, rows in by_card(ctx.inputs.rows()).items():
            peak = max(_counts([row["paid_s"] for row in rows], 60 * ctx.params["minutes"]))
            scores[card] = (min(peak / (2 * ctx.params["limit"]), 1.0), {"payments": peak})
        return result(scores, ctx)

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """As many payments as the limit within a minute, and one payment alone."""
        limit = int(self.params["limit"])
        yield canary("fast", 0.5, cycle, [(n / limit, 2, "PT") for n in range(limit)])
        yield canary("slow", 1 / (2 * limit), cycle, [(0, 2, "PT")])


def _counts(times_s: list[float], span_s: float) -> Iterator[int]:
    """Yield for each instant how many there are in the `span_s` seconds up to it; instants are in order."""
    first = 0
    for n, at in enumerate(times_s):
        while at - times_s[first] >= span_s:
            first += 1
        yield n - first + 1


class UnusualAmount(BaseDetectionModel):
    """Robust z-score of a card's largest amount, beside its own of `history_days`.

    z is (ln(amount) - median) / sigma, with sigma from the median absolute deviation: a few frauds among the
    amounts move neither. At `limit` the score is 0.5, at twice as much 1; there is none of a card with less
    than `min_payments`.
    """

    HISTORY = """
        select card, amount::float8 as amount from shop.payments
         where paid_at >= :since and paid_at < :window_start and card = any(:cards)
    """

    def run(self, ctx: ModelContext) -> ModelResult:
        """Judge the largest amount of each card in the window."""
        cards = by_card(ctx.inputs.rows())
        amounts: dict[str, list[float]] = {
            card: [row["amount"] for row in rows] for card, rows in cards.items()
        }
        if ctx.database is not None:
            params = {"since": self.reads_since(ctx.cycle), "cards": list(cards)}
            for row in ctx.database.query(self.HISTORY, params).rows():
                amounts[row["card"]].append(row["amount"])
        return result(
            {
                card: self._judged(max(row["amount"] for row in rows), amounts[card], ctx.params)
                for card, rows in cards.items()
            },
            ctx,
        )

    def reads_since(self, cycle: Cycle) -> datetime:
        """Return where the history begins, UTC."""
        return cycle.started_at - timedelta(days=self.params["history_days"])

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """An amount that is e times the usual, one that is usual, and a card of which too little is known."""
        usual = [(float(n), 20.0, "PT") for n in range(int(self.params["min_payments"]))]
        unusual = 1 / LEAST_SIGMA / (2 * self.params["limit"])
        yield canary("unusual", min(unusual, 1.0), cycle, [*usual, (50, 20 * math.e, "PT")])
        yield canary("usual", 0.0, cycle, usual)
        yield canary("unknown", None, cycle, usual[1:])

    @staticmethod
    def _judged(
        largest: float, amounts: list[float], params: JsonMapping
    ) -> tuple[float | None, JsonMapping]:
        if len(amounts) < params["min_payments"]:
            return None, {"payments": len(amounts)}
        logs = [math.log(amount) for amount in amounts]
        middle = median(logs)
        sigma = max(MAD_TO_SIGMA * median(abs(value - middle) for value in logs), LEAST_SIGMA)
        z = (math.log(largest) - middle) / sigma
        score = min(max(z / (2 * params["limit"]), 0.0), 1.0)
        return score, {"amount": largest, "usual": round(math.exp(middle), 2), "z": round(z, 2)}


class FraudScore(BaseDetectionModel):
    """One score for each card, of those of the models before it: 1 - product of (1 - weight * score)."""

    def run(self, ctx: ModelContext) -> ModelResult:
        """Put the champions' scores together; a null score says nothing."""
        parts: dict[str, dict[str, float]] = defaultdict(dict)
        for model_id in ctx.params["weights"]:
            for card, score in zip(*ctx.shared[model_id].columns(), strict=True):
                if card is not None and score is not None:
                    parts[card][model_id] = score
        return ModelResult(
            outputs_per_input=[
                ({"card": card}, {"card": card, "score": self._combined(scores), "evidence": scores})
                for card, scores in parts.items()
            ],
        )

    def _combined(self, scores: dict[str, float]) -> float:
        weights: Mapping[str, float] = self.params["weights"]
        return 1 - math.prod(1 - weights[model_id] * score for model_id, score in scores.items())

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """A card that each model upstream gave 0.5."""
        card = "canary:everywhere"
        weights = self.params["weights"]
        pair = ({"card": card}, {"card": card, "score": 0.5})
        yield Canary(
            entity_id=card,
            rows=(),
            expected=self._combined(dict.fromkeys(weights, 0.5)),
            upstream=dict.fromkeys(weights, (pair,)),
            needs_upstream=True,
        )
