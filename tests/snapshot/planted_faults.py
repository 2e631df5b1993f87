"""Faults to plant: models that are broken in one way each, and feeds that lose or alter rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from tests.snapshot.noaa_day import COG, DAY, HEADING, LAT, LON, MMSI, SOG, STEP, TIME, Rows, models

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.specs import Cycle
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult

Pair = tuple[JsonMapping, JsonMapping]
Columns = dict[str, np.ndarray[Any, Any]]  # what a model reads: columns of float, NaN for null


class BrokenModel(BaseDetectionModel):
    """A model with a fault planted before or behind it; its canaries and features are the model's own."""

    def __init__(
        self,
        model: BaseDetectionModel,
        *,
        before: Callable[[ModelContext], ModelContext] | None = None,
        behind: Callable[[Pair], Pair] | None = None,
        outputs: Callable[[list[Pair]], list[Pair]] | None = None,
    ) -> None:
        super().__init__(model.model_id, model.version, model.params)
        self._model, self._before, self._behind, self._outputs = model, before, behind, outputs
        self.features = model.features  # type: ignore[misc]  # of the class elsewhere

    def canaries(self, cycle: Cycle) -> Iterable[Canary]:
        return self._model.canaries(cycle)

    def run(self, ctx: ModelContext) -> ModelResult:
        result = self._model.run(self._before(ctx) if self._before else ctx)
        pairs = [self._behind(pair) if self._behind else pair for pair in result.outputs_per_input]
        return replace(result, outputs_per_input=self._outputs(pairs) if self._outputs else pairs)


class FrozenModel(BaseDetectionModel):
    """A model that gives the outputs of its first cycle in each cycle, or those of the cycle before."""

    def __init__(self, model: BaseDetectionModel, *, is_late: bool = False) -> None:
        super().__init__(model.model_id, model.version, model.params)
        self._model, self._previous, self._is_late = model, list[Pair](), is_late

    def canaries(self, cycle: Cycle) -> Iterable[Canary]:
        return self._model.canaries(cycle)

    def run(self, ctx: ModelContext) -> ModelResult:
        result = self._model.run(ctx)
        current = list(result.outputs_per_input)
        frozen = self._previous or current
        self._previous = current if self._is_late else frozen
        return replace(result, outputs_per_input=frozen)


def columns(
    change: Callable[[Columns], None],
) -> Callable[[ModelContext], ModelContext]:
    """Change the columns that the model reads."""

    def changed(ctx: ModelContext) -> ModelContext:
        arrays = {name: np.array(values, dtype=float) for name, values in ctx.inputs.columns.items()}
        change(arrays)
        inputs = {
            name: tuple(None if v != v else v for v in values.tolist()) for name, values in arrays.items()
        }
        return replace(ctx, inputs=Inputs(inputs))

    return changed


def output(change: Callable[[dict[str, Any]], None]) -> Callable[[Pair], Pair]:
    def changed(pair: Pair) -> Pair:
        values = dict(pair[1])
        change(values)
        return pair[0], values

    return changed


def _score(change: Callable[[float], float | None]) -> Callable[[Pair], Pair]:
    return output(lambda o: o.update(score=None if o["score"] is None else change(o["score"])))


def _zero_for_null(read: Columns) -> None:
    is_null = ~(np.abs(read["lat"]) <= 90)
    read["lat"][is_null] = read["lon"][is_null] = 0.0


def _all_zero(read: Columns) -> None:
    read["lat"][:] = read["lon"][:] = 0.0


def _minutes(read: Columns) -> None:
    read["observed_s"][:] = (read["observed_s"] - read["observed_s"].min()) * 60


def _no_speed(read: Columns) -> None:
    del read["sog_kn"]


def _round(places: int) -> Callable[[Columns], None]:
    def rounded(read: Columns) -> None:
        read["lat"], read["lon"] = np.round(read["lat"], places), np.round(read["lon"], places)

    return rounded


def _without_kinematics(o: dict[str, Any]) -> None:
    if o["score"] is not None:
        e = o["evidence"]
        o["score"] = 1 - (1 - 0.3 * e["c_sog"]) * (1 - 0.25 * e["c_id"])


def _rows(kept: Callable[[np.ndarray[Any, Any]], Any]) -> Callable[[ModelContext], ModelContext]:
    """Keep the rows that `kept` selects by their identities, and the rows of canaries."""

    def chosen(read: Columns) -> None:
        is_kept = kept(read["mmsi"]) | (read["mmsi"] < 0) | (read["mmsi"] >= 2**30)
        read.update({name: values[is_kept] for name, values in read.items()})

    return columns(chosen)


def _is_real(pair: Pair) -> bool:
    return bool(0 <= pair[1]["mmsi"] < 2**30)


def _score_of_output_before(pairs: list[Pair]) -> list[Pair]:
    scores = [output["score"] for _, output in pairs]
    moved = zip(pairs, scores[-1:] + scores[:-1], strict=True)
    return [(ref, {**output, "score": score}) for (ref, output), score in moved]


def _no_null_score(pair: Pair) -> Pair:
    """Turn a null score to 0, except those of canaries."""
    return (pair[0], {**pair[1], "score": pair[1]["score"] or 0.0}) if _is_real(pair) else pair


def _cut(pair: Pair) -> Pair:
    return (pair[0], {**pair[1], "entity_id": pair[1]["entity_id"][:5]}) if _is_real(pair) else pair


def _single_precision(read: Columns) -> None:
    read["mmsi"] = read["mmsi"].astype(np.float32).astype(float)


def _faster(ctx: ModelContext) -> ModelContext:
    return replace(ctx, params={**ctx.params, "v_max_kn": 20 * ctx.params["v_max_kn"]})


def _other_identity(ctx: ModelContext) -> ModelContext:
    """Give the identities of `track_quality` another type, so that none of them matches."""

    class Renamed:
        def __init__(self, upstream: Any) -> None:
            self._upstream = upstream

        def __len__(self) -> int:
            return len(self._upstream)

        def __iter__(self) -> Iterator[Pair]:
            return iter(self._upstream)

        def columns(self) -> Any:
            entities, scores = self._upstream.columns()
            return tuple(float(e) for e in entities), scores

    return replace(ctx, shared={name: Renamed(upstream) for name, upstream in ctx.shared.items()})


def _with(name: str, **faults: Any) -> Callable[[], Mapping[str, BaseDetectionModel]]:
    def broken_models() -> Mapping[str, BaseDetectionModel]:
        detectors = models()
        return {**detectors, name: BrokenModel(detectors[name], **faults)}

    return broken_models


def _frozen(*, is_late: bool = False) -> Mapping[str, BaseDetectionModel]:
    detectors = models()
    return {**detectors, "spoofing": FrozenModel(detectors["spoofing"], is_late=is_late)}


MODEL_FAULTS: dict[str, Callable[[], Mapping[str, BaseDetectionModel]]] = {
    "zero-filled scores": _with("spoofing", behind=output(lambda o: o.update(score=0.0))),
    "zero for known scores": _with("spoofing", behind=_score(lambda _: 0.0)),
    "all null": _with("spoofing", behind=output(lambda o: o.update(score=None))),
    "null scores turned to 0": _with("spoofing", behind=output(lambda o: o.update(score=o["score"] or 0.0))),
    "null coordinates turned to 0": _with("spoofing", before=columns(_zero_for_null)),
    "null coordinates turned to 0 in track_quality": _with("track_quality", before=columns(_zero_for_null)),
    "coordinates lost and turned to 0": _with("spoofing", before=columns(_all_zero)),
    "identity as float": _with(
        "spoofing", behind=lambda p: (p[0], {**p[1], "entity_id": str(float(p[1]["mmsi"]))})
    ),
    "identity of the upstream as float": _with("spoofing", before=_other_identity),
    "scale x0.01": _with("spoofing", behind=_score(lambda s: s * 0.01)),
    "main component lost": _with("spoofing", behind=output(_without_kinematics)),
    "v_max x20": _with("spoofing", before=_faster),
    "speed column lost": _with("spoofing", before=columns(_no_speed)),
    "seconds read as minutes": _with("spoofing", before=columns(_minutes)),
    "coordinates rounded to 2 places": _with("spoofing", before=columns(_round(2))),
    "coordinates rounded to 3 places": _with("spoofing", before=columns(_round(3))),
    "latitude and longitude swapped": _with(
        "spoofing", before=columns(lambda h: h.update(lat=h["lon"].copy(), lon=h["lat"].copy()))
    ),
    "frozen replay": _frozen,
    "one cycle behind": partial(_frozen, is_late=True),
    "constant scores": _with("spoofing", behind=_score(lambda _: 0.5)),
    "inverted scores": _with("spoofing", behind=_score(lambda s: 1 - s)),
    "scores rounded to 3 places": _with("spoofing", behind=_score(lambda s: round(s, 3))),
    "scores rounded to 3 places in track_quality": _with(
        "track_quality", behind=_score(lambda s: round(s, 3))
    ),
    "scores of the one before": _with("spoofing", outputs=_score_of_output_before),
    "no real score null": _with("spoofing", behind=_no_null_score),
    "upstream ignored": _with("spoofing", before=lambda ctx: replace(ctx, shared={})),
    "speed in km/h": _with("spoofing", before=columns(lambda h: h.update(sog_kn=h["sog_kn"] * 1.852))),
    "speed in m/s": _with("spoofing", before=columns(lambda h: h.update(sog_kn=h["sog_kn"] * 0.514))),
    "longitude without its sign": _with("spoofing", before=columns(lambda h: h.update(lon=np.abs(h["lon"])))),
    "real ships twice": _with("spoofing", outputs=lambda pairs: [*pairs, *filter(_is_real, pairs)]),
    "real identities cut": _with("spoofing", behind=_cut),
    "real identities cut in track_quality": _with("track_quality", behind=_cut),
    "identity in single precision": _with("spoofing", before=columns(_single_precision)),
    "identity in single precision in track_quality": _with(
        "track_quality", before=columns(_single_precision)
    ),
    "every second real row": _with("spoofing", before=_rows(lambda mmsi: np.arange(len(mmsi)) % 2 == 0)),
    "the first thousand real rows": _with("spoofing", before=_rows(lambda mmsi: np.arange(len(mmsi)) < 1000)),
    "half of the real ships": _with(
        "spoofing", outputs=lambda pairs: [p for k, p in enumerate(pairs) if k % 2 or not _is_real(p)]
    ),
}

Feed = Callable[[Rows, int], Rows]


def _since(start: int, change: Callable[[Rows], Rows]) -> Feed:
    """Change the rows with a time from `start` on; the older ones in the window stay as they are."""
    since = (DAY + (start - 1) * STEP).timestamp()

    def fed(rows: Rows, _: int) -> Rows:
        is_new = rows[:, TIME] >= since
        changed = np.concatenate([rows[~is_new], change(rows[is_new])])
        return changed[np.lexsort((changed[:, LON], changed[:, LAT], changed[:, TIME], changed[:, MMSI]))]

    return fed


def _set(*indexes: int, value: float) -> Callable[[Rows], Rows]:
    def changed(rows: Rows) -> Rows:
        rows[:, list(indexes)] = value
        return rows

    return changed


def _at_first_place(rows: Rows) -> Rows:
    _, first, group = np.unique(rows[:, MMSI], return_index=True, return_inverse=True)
    rows[:, [LAT, LON]] = rows[first][:, [LAT, LON]][group]
    return rows


def _rounded(rows: Rows) -> Rows:
    rows[:, [LAT, LON]] = np.round(rows[:, [LAT, LON]], 1)
    return rows


def _times(
    index: int, factor: float, rounding: Callable[[Any], Any] = lambda v: v, back: float = 1
) -> Callable[[Rows], Rows]:
    def changed(rows: Rows) -> Rows:
        rows[:, index] = back * rounding(rows[:, index] * factor)
        return rows

    return changed


def _swapped(rows: Rows) -> Rows:
    rows[:, [LAT, LON]] = rows[:, [LON, LAT]]
    return rows


FEED_FAULTS: dict[str, Callable[[Rows], Rows]] = {
    "speed null": _set(SOG, value=np.nan),
    "position constant": _set(LAT, LON, value=27.0),
    "each ship's position constant": _at_first_place,
    "latitude null": _set(LAT, value=np.nan),
    "ingest stopped": lambda rows: rows[:0],
    "half of the rows lost": lambda rows: rows[::2],
    "half of the ships lost": lambda rows: rows[rows[:, MMSI] * 0.6180339887 % 1 < 0.5],
    "position rounded": _rounded,
    "a third of the rows lost": lambda rows: rows[np.arange(len(rows)) % 3 > 0],
    "a third of the ships lost": lambda rows: rows[rows[:, MMSI] * 0.6180339887 % 1 > 1 / 3],
    "every row twice": lambda rows: np.concatenate([rows, rows]),
    "a third of the rows twice": lambda rows: np.concatenate([rows, rows[::3]]),
    "one identity": _set(MMSI, value=367_000_000),
    "identity cut": _times(MMSI, 0.1, np.floor),
    "speed in km/h": _times(SOG, 1.852),
    "speed in m/s": _times(SOG, 0.514),
    "speed times ten": _times(SOG, 10),
    "speed rounded": _times(SOG, 1, np.round),
    "course constant": _set(COG, value=0.0),
    "heading constant": _set(HEADING, value=0.0),
    "time to the minute": _times(TIME, 1 / 60, np.floor, 60),
    "longitude without its sign": _times(LON, -1),
    "latitude and longitude swapped": _swapped,
}


def feed_fault(name: str, start: int) -> Feed:
    """Return a fault of the feed whose first rows are those that newly arrive in the cycle `start`."""
    return _since(start, FEED_FAULTS[name])


SWITCH = "PLANTED_FAULT"
"""The environment variable that names a fault of `MODEL_FAULTS`."""


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
    """A model whose outputs are the entities upstream and in its inputs; it has a canary of its own."""

    def run(self, ctx: ModelContext) -> ModelResult:
        seen = {"inputs": sorted({str(mmsi) for mmsi in ctx.inputs.columns["mmsi"]})}
        for name, upstream in ctx.shared.items():
            seen[name] = sorted(str(entity) for entity in upstream.columns()[0])
            assert len(upstream) == len(seen[name]) == sum(1 for _ in upstream)
        outputs = [({}, {"entity_id": f"saw {name}", "score": 0.9, "seen": s}) for name, s in seen.items()]
        own = [({}, {"entity_id": "-7", "score": 0.5})] if -7 in ctx.inputs.columns["mmsi"] else []
        return ModelResult(outputs_per_input=[*outputs, *own])

    def canaries(self, cycle: Cycle) -> Iterable[Canary]:
        yield Canary(entity_id="-7", rows=({"mmsi": -7},), expected=0.5)
