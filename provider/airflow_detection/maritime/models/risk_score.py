"""The risk of a vessel in all: the scores of the other models, weighed and put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult, Upstream
from airflow_detection.engine.reads import READ
from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.tracks.fixes import in_time_order, read_fixes
from airflow_detection.maritime.vessel_outputs import vessel_metrics, vessel_output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from airflow_detection.domain.specs import Cycle
    from airflow_detection.maritime.tracks.geo import FloatArray

WEIGHTS: Mapping[str, float] = {
    "identity_collision": 0.5,
    "gear_identity_collision": 0.5,
    "spoofing": 0.35,
    "ais_gap": 0.35,
    "encounter": 0.3,
    "loitering": 0.15,
}


class RiskScore(BaseDetectionModel):
    """One output per MMSI of which an upstream has an output: `1 - prod(1 - weight * score)`.

    A score that is null contributes nothing and is named in the evidence; the risk is null where all are. Of
    several outputs for one MMSI (tracks, gear, encounters) the highest counts.

    Params:
        weights: from model id to a weight in [0, 1]; a model that is left out weighs nothing (`WEIGHTS`).
    """

    features: ClassVar[tuple[str, ...]] = ()

    def run(self, ctx: ModelContext) -> ModelResult:
        """Weigh the outputs of the upstreams; one that is not there contributes nothing.

        Raises:
            TerminalModelError: a weight is not a number in [0, 1].
        """
        weights = {m: w for m, w in _weights(ctx.params).items() if m in ctx.shared}
        by_model = {model_id: _by_mmsi(ctx.shared[model_id]) for model_id in weights}
        vessels = np.unique(
            np.array([mmsi for by_mmsi in by_model.values() for mmsi in by_mmsi], dtype=np.int64)
        )
        scores = {model_id: _column(by_mmsi, vessels) for model_id, by_mmsi in by_model.items()}
        safe = np.ones(len(vessels))
        for model_id, weight in weights.items():
            safe *= 1 - weight * np.nan_to_num(scores[model_id])
        has_score = np.zeros(len(vessels), dtype=np.bool_)
        for column in scores.values():
            has_score |= ~np.isnan(column)
        fixes = in_time_order(read_fixes(ctx.inputs))
        n_pos = np.searchsorted(fixes.mmsi, vessels, side="right") - np.searchsorted(fixes.mmsi, vessels)
        parts = [(m, weights[m], column.tolist(), by_model[m]) for m, column in scores.items()]
        columns = zip(vessels.tolist(), (1 - safe).tolist(), has_score.tolist(), n_pos.tolist(), strict=True)
        outputs = [
            vessel_output(mmsi, risk if is_scored else None, n, _evidence(mmsi, k, parts))
            for k, (mmsi, risk, is_scored, n) in enumerate(columns)
        ]
        return ModelResult(
            outputs_per_input=outputs,
            metrics=vessel_metrics(outputs),
            features={READ + model_id: _read(ctx.shared[model_id]) for model_id in weights},
        )

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """All models sure, one half sure, one sure beside a null, none, and all null."""
        weights = _weights(self.params)
        first, *others = sorted(weights, key=lambda model_id: (-weights[model_id], model_id))

        def canary(mmsi: int, expected: float | None, scores: Mapping[str, float | None]) -> Canary:
            upstream = {
                m: (({"mmsi": mmsi}, {"entity_id": str(mmsi), "mmsi": mmsi, "score": score}),)
                for m, score in scores.items()
            }
            return Canary(entity_id=str(mmsi), rows=(), expected=expected, upstream=upstream)

        everything = 1.0
        for weight in weights.values():
            everything *= 1 - weight
        yield canary(-1, 1 - everything, dict.fromkeys(weights, 1.0))
        yield canary(-2, weights[first] / 2, {**dict.fromkeys(others, 0.0), first: 0.5})
        yield canary(-3, weights[first], {**dict.fromkeys(others), first: 1.0})
        yield canary(-4, 0.0, dict.fromkeys(weights, 0.0))
        yield canary(-5, None, dict.fromkeys(weights))


def _by_mmsi(upstream: Upstream) -> dict[int, float | None]:
    """Return the highest score of each MMSI that a champion's outputs are about; null where all are."""
    entities, scores = upstream.columns()
    highest: dict[int, float | None] = {}
    for entity, score in zip(entities, scores, strict=True):
        if entity is not None and _is_mmsi(entity):
            _keep_highest(highest, int(entity), score)
    if not all(entity is not None and _is_mmsi(entity) for entity in entities):
        # gear and pairs of vessels: their outputs name the MMSI
        for (_, output), entity, score in zip(upstream, entities, scores, strict=True):
            if entity is None or not _is_mmsi(entity):
                for mmsi in _mmsis(output):
                    _keep_highest(highest, mmsi, score)
    return highest


def _read(upstream: Upstream) -> list[float | None]:
    """Return the scores of an upstream, without those of canaries."""
    return [
        score
        for entity, score in zip(*upstream.columns(), strict=True)
        if entity is not None and not entity.startswith(("-", "canary:"))
    ]


def _is_mmsi(entity: str) -> bool:
    return entity.removeprefix("-").isdecimal()


def _mmsis(output: JsonMapping) -> list[int]:
    evidence = output.get("evidence") or {}
    named = output.get("mmsis") or evidence.get("mmsis") or [output.get("mmsi")]
    return [int(mmsi) for mmsi in named if mmsi is not None]


def _keep_highest(highest: dict[int, float | None], mmsi: int, score: float | None) -> None:
    before = highest.get(mmsi)
    highest[mmsi] = score if before is None else before if score is None else max(before, score)


def _column(by_mmsi: Mapping[int, float | None], vessels: NDArray[np.int64]) -> FloatArray:
    """Return scores in the order of `vessels`, NaN where there is none."""
    values = [by_mmsi.get(mmsi) for mmsi in vessels.tolist()]
    return np.array(values, dtype=np.float64)


def _evidence(
    mmsi: int, k: int, parts: Sequence[tuple[str, float, Sequence[float], Mapping[int, float | None]]]
) -> JsonMapping:
    """Return what each model adds, by its weight and its scores; the `k`-th is that of the vessel."""
    return {
        "parts": {
            model_id: round(weight * scores[k], 6) for model_id, weight, scores, _ in parts if scores[k] > 0
        },
        "unknown": [model_id for model_id, _, _, by_mmsi in parts if by_mmsi.get(mmsi, 0.0) is None],
    }


def _weights(params: JsonMapping) -> Mapping[str, float]:
    weights = params.get("weights", WEIGHTS)
    if not isinstance(weights, Mapping) or not weights:
        raise TerminalModelError(f"param 'weights' is {weights!r}: must map models to weights")
    for model_id, weight in weights.items():
        is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not is_number or not 0 <= weight <= 1:
            raise TerminalModelError(
                f"the weight of {model_id!r} is {weight!r}: must be a number from 0 to 1"
            )
    return {str(model_id): float(weight) for model_id, weight in weights.items()}
