"""Canaries: synthetic inputs with known scores that travel with a run and are never stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import JsonMapping, frozen
from airflow_detection.domain.reports import CanaryResult, FeatureProfile
from airflow_detection.domain.specs import Cycle, ModelSpec
from airflow_detection.engine.metrics import finite
from airflow_detection.engine.model import BaseDetectionModel, Canary, Upstream
from airflow_detection.engine.run_log import run_logger

_log = run_logger("airflow_detection.engine")

Pair = tuple[JsonMapping, JsonMapping]

ENTITIES = "outputs"
"""The profile of the real outputs' entities: null are those that occur nowhere among the inputs."""

PROFILED = 10_000
"""Outputs that are profiled, the first ones: of more, time and memory would be felt."""


def entity_of(entity_key: str | None, input_ref: JsonMapping, output: JsonMapping) -> str | None:
    """The entity an output is about, as text: from the output, else from the input_ref."""
    if entity_key is None:
        return None
    found = output.get(entity_key)
    found = input_ref.get(entity_key) if found is None else found
    return None if found is None else str(found)


class CanaryWatch:
    """The canaries of one run: takes their outputs out of the stream and keeps their scores."""

    def __init__(
        self, model: ModelSpec, canaries: Iterable[Canary] = (), real: Collection[str] = frozenset()
    ) -> None:
        self._model = model
        self._real = real
        self._entities: list[object] = []
        self.canaries = {str(canary.entity_id): canary for canary in canaries}
        self._scores: dict[str, list[float | None]] = {entity_id: [] for entity_id in self.canaries}
        self._aliases = {alias for entity_id in self.canaries for alias in _aliases(entity_id)}
        self._columns = _identity_columns(self.canaries.values())

    @classmethod
    def choose(
        cls,
        model: ModelSpec,
        detector: BaseDetectionModel,
        cycle: Cycle,
        inputs: Inputs,
        upstreams: Collection[str],
    ) -> CanaryWatch:
        """Take the detector's canaries, but none that could be mistaken for a real entity.

        One that needs outputs of a model which is not among `upstreams` has nothing to prove.
        """
        offered = [
            canary
            for canary in detector.canaries(cycle)
            if not canary.needs_upstream or canary.upstream.keys() <= set(upstreams)
        ]
        if offered and model.entity_key is None:
            _log.warning("%s: no canaries, for the model has no entity_key to know them by", model.model_id)
            return cls(model)
        columns = _identity_columns(offered) | {model.entity_key or ""}
        real = {str(entity) for name in columns for entity in set(inputs.columns.get(name, ()))}
        for canary in offered:
            if str(canary.entity_id) in real:
                _log.warning("%s: canary %r dropped, it is a real entity", model.model_id, canary.entity_id)
        return cls(model, [canary for canary in offered if str(canary.entity_id) not in real], real)

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
        """The outputs of real entities; the canaries' scores are kept.

        What is a canary's but goes by another form of its identity (-1.0 for -1, or none at all while the
        input_ref tells) is no output either, and no answer: that canary was not found.
        """
        if not self.canaries:
            yield from self._noted(outputs)
            return
        for input_ref, output in outputs:
            entity = entity_of(self._model.entity_key, input_ref, output)
            if entity in self._scores:
                self._scores[entity].append(finite(output.get(self._model.score_key or "")))
            elif entity not in self._aliases and not self._is_canary(input_ref):
                if len(self._entities) < PROFILED:
                    self._entities.append(entity)
                yield input_ref, output

    def _noted(self, outputs: Iterable[Pair]) -> Iterator[Pair]:
        held, key = iter(outputs), self._model.entity_key or ""
        for pair in islice(held, PROFILED if key else 0):
            value = pair[1].get(key)
            self._entities.append(pair[0].get(key) if value is None else value)
            yield pair
        yield from held

    def _is_canary(self, input_ref: JsonMapping) -> bool:
        return any(str(input_ref[name]) in self._aliases for name in self._columns if name in input_ref)

    def entities(self) -> tuple[FeatureProfile, ...]:
        """A profile of the entities of the real outputs so far; none where nobody knows them."""
        if self._model.entity_key is None or not self._entities:
            return ()
        names = [None if value is None else str(value) for value in self._entities]
        profile = FeatureProfile(
            name=ENTITIES,
            count=len(names),
            null_count=sum(name not in self._real for name in names) if self._real else 0,
            distinct_count=len(set(names)),
        )
        return (profile,)

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


def _aliases(entity_id: str) -> set[str]:
    """Other texts of the same identity: that of a number written as a float."""
    try:
        return {entity_id, str(float(entity_id))}
    except ValueError:
        return {entity_id}


def _identity_columns(canaries: Iterable[Canary]) -> set[str]:
    """The input columns that hold the identity in every row of every canary."""
    columns = [
        {name for name, value in row.items() if str(value) == canary.entity_id}
        for canary in canaries
        for row in canary.rows
    ]
    return set.intersection(*columns) if columns else set()


class SharedOutputs:
    """An upstream as a model sees it: read-only, with the canaries' outputs behind the real ones."""

    def __init__(self, upstream: Upstream, extra: Sequence[tuple[str, Pair]] = ()) -> None:
        self._upstream, self._extra = upstream, tuple(extra)

    def __len__(self) -> int:
        return len(self._upstream) + len(self._extra)

    def __iter__(self) -> Iterator[Pair]:
        if getattr(self._upstream, "is_read_only", False):
            yield from self._upstream
        else:
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
