"""Models to register by name: reference models with a fault that is switched on, and a listener."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import ClassVar

from tests.snapshot.faults import MODEL_FAULTS
from tests.snapshot.sea import models

from airflow_detection.domain import Cycle
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult

SWITCH = "PLANTED_FAULT"
"""The environment variable that names a fault of `faults.MODEL_FAULTS`."""


class Planted(BaseDetectionModel):
    """The reference model of the same id, broken as the environment says."""

    features: ClassVar[tuple[str, ...]] = ("lat", "lon", "sog_kn")

    def _model(self) -> BaseDetectionModel:
        fault = os.environ.get(SWITCH)
        return (MODEL_FAULTS[fault]() if fault else models())[self.model_id]

    def run(self, ctx: ModelContext) -> ModelResult:
        return self._model().run(ctx)

    def canaries(self, cycle: Cycle) -> Iterable[Canary]:
        return self._model().canaries(cycle)


class Listener(BaseDetectionModel):
    """Tells whom it saw upstream and in its inputs; it has a canary of its own."""

    def run(self, ctx: ModelContext) -> ModelResult:
        seen = {"inputs": sorted({str(mmsi) for mmsi in ctx.inputs.columns["mmsi"]})}
        for name, upstream in ctx.shared.items():
            seen[name] = sorted(str(entity) for entity in upstream.columns()[0])
            assert len(upstream) == len(seen[name]) == sum(1 for _ in upstream)
        told = [({}, {"entity_id": f"saw {name}", "score": 0.9, "seen": s}) for name, s in seen.items()]
        own = [({}, {"entity_id": "-7", "score": 0.5})] if -7 in ctx.inputs.columns["mmsi"] else []
        return ModelResult(outputs_per_input=[*told, *own])

    def canaries(self, cycle: Cycle) -> Iterable[Canary]:
        yield Canary(entity_id="-7", rows=({"mmsi": -7},), expected=0.5)
