"""Model that runs in shards, for Dags that Airflow's own task runner runs."""

from __future__ import annotations

from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.errors import TerminalModelError


class EachEntity(BaseDetectionModel):
    """One output for each entity of its inputs; fails where `params.fails_at` is one of them."""

    shard_by = "entity"

    def run(self, ctx: ModelContext) -> ModelResult:
        entities = [str(entity) for entity in ctx.inputs["id"]]
        if ctx.params.get("fails_at") in entities:
            raise TerminalModelError("told to fail")
        return ModelResult(outputs_per_input=[({}, {"id": e, "score": 0.25}) for e in entities])
