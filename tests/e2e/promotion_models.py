"""A model whose versions are right about a known share of entities, or fall silent from an instant on."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from airflow_detection.domain.specs import Cycle
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult

ENTITIES = 60


def is_positive(number: int) -> bool:
    """Tell what is true of an entity."""
    return number % 2 == 0


class Judge(BaseDetectionModel):
    """Scores ENTITIES entities: wrong about the first `params.wrong` ones, and about none after that.

    In cycles from `params.silent_from` (ISO 8601) on it finds nothing, not even its canary.
    """

    def canaries(self, cycle: Cycle) -> Iterable[Canary]:
        """One entity that is always to be found."""
        yield Canary(entity_id="canary:1", rows=({"id": "canary:1"},), expected=0.9)

    def run(self, ctx: ModelContext) -> ModelResult:
        """Score the entities and whatever rows there are besides, which are canaries."""
        silent_from = ctx.params.get("silent_from")
        if silent_from and ctx.cycle.started_at >= datetime.fromisoformat(silent_from):
            return ModelResult(outputs_per_input=[])
        wrong = ctx.params["wrong"]
        scores = {f"e{n}": 0.9 if is_positive(n) != (n < wrong) else 0.1 for n in range(ENTITIES)}
        scores |= {row["id"]: 0.9 for row in ctx.inputs if str(row.get("id", "")).startswith("canary:")}
        rows = [({"id": entity}, {"id": entity, "score": score}) for entity, score in scores.items()]
        return ModelResult(outputs_per_input=rows)
