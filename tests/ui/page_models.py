"""A model whose outputs are its params: what the pages show is known."""

from __future__ import annotations

from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult

STRANGER, HIDDEN = "stranger", "detection_hidden"
HOSTILE = "<script>alert(1)</script>\"'&[x](javascript:y)\u202e\x1b[31m"


class Fixed(BaseDetectionModel):
    """One output for each of `params.scores`; `fail` fails."""

    def run(self, ctx: ModelContext) -> ModelResult:
        if ctx.params.get("fail"):
            raise ValueError(str(ctx.params["fail"]))
        rows = [
            ({"id": entity}, {"id": entity, "score": score, "evidence": {"why": f"{entity} is {score}"}})
            for entity, score in ctx.params["scores"].items()
        ]
        return ModelResult(outputs_per_input=rows, metrics={"inputs": len(ctx.inputs)})
