"""Canaries: synthetic inputs with known scores that travel with a run and are never stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from airflow_detection.domain import CanaryResult, Cycle, Inputs, JsonMapping, ModelSpec, frozen
from airflow_detection.engine.metrics import finite
from airflow_detection.engine.model import BaseDetectionModel, Canary, Upstream
from airflow_detection.engine.run_log import run_logger

_log = run_logger("airflow_detection.engine")

Pair = tuple[JsonMapping, JsonMapping]


def entity_of(entity_key: str | None, input_ref: JsonMapping, output: JsonMapping) -> str | None:
    """The entity an output is about, as text: from the output, else from the input_ref."""
    if entity_key is None:
        return None
    found = output.get(entity_key)
    found = input_ref.get(entity_key) if found is None else found
    return None if found is None else str(found)


class CanaryWatch:
    """The canaries of one run: takes their outputs out of the stream and keeps their scores."""

    def __init__(self, model: ModelSpec, canaries: Iterable[Canary] = ()) -> None:
        self._model = model
        self.canaries = {str(canary.entity_id): canary for canary in canaries}
        self._scores: dict[str, list[float | None]] = {entity_id: [] for entity_id in self.canaries}

    @classmethod
    def choose(
        cls, model: ModelSpec, detector: BaseDetectionModel, cycle: Cycle, inputs: Inputs
    ) -> CanaryWatch:
        """Take the detector's canaries, but none that could be mistaken for a real entity."""
        offered = list(detector.canaries(cycle))
        if offered and model.entity_key is None:
            _log.warning("%s: no canaries, for the model has no entity_key to know them by", model.model_id)
            return cls(model)
        real = {str(entity) for entity in set(inputs.columns.get(model.entity_key or "", ()))}
        for canary in offered:
            if str(canary.entity_id) in real:
                _log.warning("%s: canary %r dropped, it is a real entity", model.model_id, canary.entity_id)
        return cls(model, [canary for canary in offered if str(canary.entity_id) not in real])

    def rows(self) -> Iterator[JsonMapping]:
        """The rows that go behind the real inputs."""
        for canary in self.canaries.values():
            yield from canary.rows

    def upstream(self, model_id: str) -> list[tuple[str, Pair]]:
        """(entity, (input_ref, output)) that go behind an upstream's real outputs."""
        return [
            (canary.entity_id, pair)
            for canary in self.canaries.values()
            for pair in canary.upstream.get(model_id, ())
        ]

    def without(self, outputs: Iterable[Pair]) -> Iterator[Pair]:
        """The outputs of real entities; the canaries' scores are kept."""
        if not self.canaries:
            yield from outputs
            return
        for input_ref, output in outputs:
            entity = entity_of(self._model.entity_key, input_ref, output)
            if entity in self._scores:
                self._scores[entity].append(finite(output.get(self._model.score_key or "")))
            else:
                yield input_ref, output

    def results(self) -> tuple[CanaryResult, ...]:
        """Expected and observed scores; of several outputs for one canary the highest score counts."""
        return tuple(
            CanaryResult(
                name=entity_id,
                expected=canary.expected,
                observed=max((s for s in self._scores[entity_id] if s is not None), default=None),
                is_present=bool(self._scores[entity_id]),
            )
            for entity_id, canary in self.canaries.items()
        )


class SharedOutputs:
    """An upstream as a model sees it: read-only, with the canaries' outputs behind the real ones."""

    def __init__(self, upstream: Upstream, extra: Sequence[tuple[str, Pair]] = ()) -> None:
        self._upstream, self._extra = upstream, tuple(extra)

    def __len__(self) -> int:
        return len(self._upstream) + len(self._extra)

    def __iter__(self) -> Iterator[Pair]:
        for input_ref, output in self._upstream:
            yield frozen(input_ref), frozen(output)
        for _, (input_ref, output) in self._extra:
            yield frozen(input_ref), frozen(output)

    def columns(self) -> tuple[Sequence[str | None], Sequence[float | None]]:
        """Entity ids and scores alone; a canary's score is under the upstream's `score_key`, else `score`."""
        entities, scores = self._upstream.columns()
        key = getattr(self._upstream, "score_key", None) or "score"
        extra = [(entity, finite(output.get(key))) for entity, (_, output) in self._extra]
        return (*entities, *(e for e, _ in extra)), (*scores, *(s for _, s in extra))
