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

ENTITY_PROFILE = "outputs"
"""Name of the profile of the outputs' entities: those that occur nowhere among the inputs count as null."""

MAX_PROFILED_OUTPUTS = 10_000
"""The first outputs alone are profiled: more would cost noticeable time and memory."""


def entity_of(entity_key: str | None, input_ref: JsonMapping, output: JsonMapping) -> str | None:
    """Return the entity that an output is about, as text: from the output, else from the input_ref."""
    if entity_key is None:
        return None
    value = output.get(entity_key)
    value = input_ref.get(entity_key) if value is None else value
    return None if value is None else str(value)


class CanaryWatch:
    """The canaries of one run: takes their outputs out of the stream and keeps their scores."""

    def __init__(
        self, model: ModelSpec, canaries: Iterable[Canary] = (), real_ids: Collection[str] = frozenset()
    ) -> None:
        self._model = model
        self._real_ids = real_ids
        self._output_entities: list[object] = []
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

        One that needs outputs of a model which is not among `upstreams` is left out.
        """
        offered = [
            canary
            for canary in detector.canaries(cycle)
            if not canary.needs_upstream or canary.upstream.keys() <= set(upstreams)
        ]
        if offered and model.entity_key is None:
            _log.warning("%s: no canaries: the model has no entity_key to recognise them by", model.model_id)
            return cls(model)
        columns = _identity_columns(offered) | {model.entity_key or ""}
        real_ids = {str(entity) for name in columns for entity in inputs.distinct(name)}
        for canary in offered:
            if str(canary.entity_id) in real_ids:
                _log.warning("%s: canary %r dropped, it is a real entity", model.model_id, canary.entity_id)
        return cls(model, [canary for canary in offered if str(canary.entity_id) not in real_ids], real_ids)

    @property
    def identity_columns(self) -> Collection[str]:
        """The input columns that hold the identity of an entity, as far as canaries show."""
        return self._columns

    def rows(self) -> Iterator[JsonMapping]:
        """Iterate over the rows that go behind the real inputs."""
        for canary in self.canaries.values():
            yield from canary.rows

    def upstream(self, model_id: str) -> list[tuple[str, Pair]]:
        """Return the (entity, (input_ref, output)) pairs that go behind an upstream's real outputs."""
        return [
            (canary.entity_id, pair)
            for canary in self.canaries.values()
            for pair in canary.upstream.get(model_id, ())
        ]

    def without_canaries(self, outputs: Iterable[Pair]) -> Iterator[Pair]:
        """Iterate over the outputs of real entities, and keep the canaries' scores.

        An output with another form of a canary's identity (-1.0 for -1, or the identity in the input_ref
        alone) is left out too, but does not count as found: that canary is not present.
        """
        if not self.canaries:
            yield from self._noting_entities(outputs)
            return
        for input_ref, output in outputs:
            entity = entity_of(self._model.entity_key, input_ref, output)
            if entity in self._scores:
                self._scores[entity].append(finite(output.get(self._model.score_key or "")))
            elif entity not in self._aliases and not self._is_canary(input_ref):
                if len(self._output_entities) < MAX_PROFILED_OUTPUTS:
                    self._output_entities.append(entity)
                yield input_ref, output

    def entity_profiles(self) -> tuple[FeatureProfile, ...]:
        """Profile the entities of the real outputs so far; empty without an entity key or outputs."""
        if self._model.entity_key is None or not self._output_entities:
            return ()
        names = [None if value is None else str(value) for value in self._output_entities]
        profile = FeatureProfile(
            name=ENTITY_PROFILE,
            count=len(names),
            null_count=sum(name not in self._real_ids for name in names) if self._real_ids else 0,
            distinct_count=len(set(names)),
        )
        return (profile,)

    def results(self) -> tuple[CanaryResult, ...]:
        """Return expected and observed scores; of several outputs for one canary the highest score counts."""
        return tuple(
            CanaryResult(
                name=entity_id,
                expected=canary.expected,
                observed=max((s for s in self._scores[entity_id] if s is not None), default=None),
                is_present=bool(self._scores[entity_id]),
            )
            for entity_id, canary in self.canaries.items()
        )

    def _noting_entities(self, outputs: Iterable[Pair]) -> Iterator[Pair]:
        pairs, key = iter(outputs), self._model.entity_key or ""
        for pair in islice(pairs, MAX_PROFILED_OUTPUTS if key else 0):
            value = pair[1].get(key)
            self._output_entities.append(pair[0].get(key) if value is None else value)
            yield pair
        yield from pairs

    def _is_canary(self, input_ref: JsonMapping) -> bool:
        return any(str(input_ref[name]) in self._aliases for name in self._columns if name in input_ref)


class SharedOutputs:
    """Upstream as a model sees it: read-only, with the canaries' outputs behind the real ones."""

    def __init__(self, upstream: Upstream, extra: Sequence[tuple[str, Pair]] = ()) -> None:
        self._upstream, self._extra = upstream, tuple(extra)
        self._real_scores: Sequence[float | None] | None = None

    def __len__(self) -> int:
        return len(self._upstream) + len(self._extra)

    @property
    def real_scores(self) -> Sequence[float | None]:
        """The scores of the real outputs, whatever was made of them."""
        return self._upstream.columns()[1] if self._real_scores is None else self._real_scores

    def __iter__(self) -> Iterator[Pair]:
        if getattr(self._upstream, "is_read_only", False):
            yield from self._upstream
        else:
            for input_ref, output in self._upstream:
                yield frozen(input_ref), frozen(output)
        for _, (input_ref, output) in self._extra:
            yield frozen(input_ref), frozen(output)

    def columns(self) -> tuple[Sequence[str | None], Sequence[float | None]]:
        """Return entity ids and scores; a canary's score is at the upstream's `score_key`, else `score`."""
        entities, scores = self._upstream.columns()
        self._real_scores = scores
        key = getattr(self._upstream, "score_key", None) or "score"
        extra = [(entity, finite(output.get(key))) for entity, (_, output) in self._extra]
        return (*entities, *(e for e, _ in extra)), (*scores, *(s for _, s in extra))


def _aliases(entity_id: str) -> set[str]:
    """Return the texts of one identity: itself, and the float of it if it is a number."""
    try:
        return {entity_id, str(float(entity_id))}
    except ValueError:
        return {entity_id}


def _identity_columns(canaries: Iterable[Canary]) -> set[str]:
    """Return the input columns that hold the identity in every row of every canary."""
    columns = [
        {name for name, value in row.items() if str(value) == canary.entity_id}
        for canary in canaries
        for row in canary.rows
    ]
    return set.intersection(*columns) if columns else set()
