"""A model that sleeps, so that its runs overlap."""

from __future__ import annotations

import time

from tests.sample_registry import Echo

from airflow_detection.engine.model import ModelContext, ModelResult


class Slow(Echo):
    """`Echo`, after `params.sleep_s` seconds."""

    def run(self, ctx: ModelContext) -> ModelResult:
        """Sleep, then echo."""
        time.sleep(float(ctx.params["sleep_s"]))
        return super().run(ctx)
