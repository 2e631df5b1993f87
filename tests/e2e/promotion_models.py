"""A model whose versions are right about a known share of entities, or fall silent from an instant on."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from airflow_detection.domain.specs import Cycle
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult

ENTITIES = 60
QUERY = "select 'e' || n as id from generate_series(0, 59) as n"


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
        """Score the rows of QUERY, and canaries."""
        silent_from = ctx.params.get("silent_from")
        if silent_from and ctx.cycle.started_at >= datetime.fromisoformat(silent_from):
            return ModelResult(outputs_per_input=[])
        ids = [str(row["id"]) for row in ctx.inputs.rows()]
        rows = [({"id": id_}, {"id": id_, "score": self._score(id_, ctx.params["wrong"])}) for id_ in ids]
        return ModelResult(outputs_per_input=rows)

    def _score(self, entity_id: str, wrong: int) -> float:
        if entity_id.startswith("canary:"):
            return 0.9
        number = int(entity_id[1:])
        return 0.9 if is_positive(number) != (number < wrong) else 0.1
