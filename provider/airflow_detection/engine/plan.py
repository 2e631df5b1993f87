"""The plan of one cycle, built from its registered models; the order of registration does not matter."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from heapq import heapify, heappop, heappush
from typing import Any

from airflow_detection.domain.json_values import plain
from airflow_detection.domain.specs import Artifact, CycleSettings, ModelSpec, Role, VersionSpec, require_id
from airflow_detection.errors import DependencyLoop, PlanError, RegistrationError, UnknownUpstream, nearest

_FORMAT = 1
_NOT_IN_DIGEST = ("task_options", "is_enabled")  # settings of today, no part of a plan's identity


@dataclass(frozen=True, kw_only=True)
class ExecutionPlan:
    """The versions that run in one cycle, and their order.

    `topo_order` holds every model, the broken ones too; `edges` are (upstream, downstream) and none leads
    into a broken model. `broken` maps a model id to the reason. `settings` are what the cycle reads; None in
    a plan of models alone, and in one that was recorded before plans had them.
    """

    topo_order: tuple[str, ...] = ()
    primaries: Mapping[str, VersionSpec] = field(default_factory=dict)
    shadows: Mapping[str, tuple[VersionSpec, ...]] = field(default_factory=dict)
    edges: tuple[tuple[str, str], ...] = ()
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    settings: CycleSettings | None = None

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the canonical JSON without today's settings (is_enabled, task_options)."""
        values = self.to_json()
        values["models"] = [
            {key: value for key, value in model.items() if key not in _NOT_IN_DIGEST}
            for model in values["models"]
        ]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def without_primary(self) -> tuple[str, ...]:
        """Models that have shadows and no champion: they do not run."""
        return tuple(m for m in self.topo_order if self.shadows.get(m) and m not in self.primaries)

    def is_enabled(self, model_id: str) -> bool:
        """Tell whether a model is switched on; one that is not in the plan is."""
        model = self.models.get(model_id)
        return model is None or model.is_enabled

    def upstreams(self, model_id: str) -> tuple[str, ...]:
        """Return the models whose champions this one reads, by name."""
        return tuple(sorted(up for up, down in self.edges if down == model_id))

    def steps(self) -> Iterator[VersionSpec]:
        """Iterate over the versions to run: in topological order, a champion and then its shadows."""
        for model_id in self.topo_order:
            if model_id in self.primaries and model_id not in self.broken:
                yield self.primaries[model_id]
                yield from self.shadows.get(model_id, ())

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the plan as JSON values; `from_json` gives the same plan back."""
        return {
            "format": _FORMAT,
            "topo_order": list(self.topo_order),
            "edges": [list(edge) for edge in self.edges],
            "broken": dict(self.broken),
            "models": [model_json(self.models[model_id]) for model_id in sorted(self.models)],
            **({} if self.settings is None else {"settings": _settings_json(self.settings)}),
        }

    @classmethod
    def from_json(cls, d: Mapping[str, Any]) -> ExecutionPlan:  # Any: JSON
        """Read what `to_json` wrote.

        Raises:
            PlanError: the JSON is not a plan of a format this version reads.
        """
        if d.get("format") != _FORMAT:
            raise PlanError(f"format of the recorded plan is {d.get('format')!r}: must be {_FORMAT}")
        try:
            models = [model_of(values) for values in d["models"]]
            return _assemble(
                {model.model_id: model for model in models},
                tuple(d["topo_order"]),
                tuple((up, down) for up, down in d["edges"]),
                dict(d["broken"]),
                _settings_of(d["settings"]) if "settings" in d else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PlanError(f"recorded plan cannot be read: {type(error).__name__}: {error}") from error


def build_plan(
    specs: Iterable[ModelSpec], *, strict: bool = True, settings: CycleSettings | None = None
) -> ExecutionPlan:
    """Order the models of one cycle so that each runs after the champions it reads; ties by name.

    Raises:
        UnknownUpstream: a model reads one that is not registered (strict only).
        DependencyLoop: models read each other; the path is named (strict only).
        RegistrationError: a model is invalid for another reason (strict only).
    """
    models: dict[str, ModelSpec] = {}
    errors: dict[str, RegistrationError] = {}
    reasons: dict[str, list[str]] = defaultdict(list)
    for spec in specs:
        if spec.model_id in models:
            errors[spec.model_id] = RegistrationError(f"model {spec.model_id!r} is registered twice")
            reasons[spec.model_id].append(str(errors[spec.model_id]))
        else:
            models[spec.model_id] = replace(spec, depends_on=tuple(sorted(set(spec.depends_on))))
    for model in models.values():
        for error in (_error_of(model), *_unknown_upstreams(model, models)):
            if error is not None:
                errors.setdefault(model.model_id, error)
                reasons[model.model_id].append(str(error))
    reads = {model_id: [u for u in models[model_id].depends_on if u in models] for model_id in sorted(models)}
    for path in _loops(reads):
        errors.setdefault(path[0], DependencyLoop(path))
        reasons[path[0]].append(str(DependencyLoop(path)))
    if strict and errors:
        raise errors[
            min(errors, key=lambda model_id: (isinstance(errors[model_id], DependencyLoop), model_id))
        ]
    reads.update({model_id: [] for model_id in errors})
    return _assemble(
        models,
        tuple(_ordered(reads)),
        tuple(sorted((up, down) for down, ups in reads.items() for up in ups)),
        {model_id: "; ".join(reasons[model_id]) for model_id in sorted(errors)},
        settings,
    )


def _assemble(
    models: Mapping[str, ModelSpec],
    topo_order: tuple[str, ...],
    edges: tuple[tuple[str, str], ...],
    broken: Mapping[str, str],
    settings: CycleSettings | None,
) -> ExecutionPlan:
    champions = {m: models[m].primary for m in topo_order}
    return ExecutionPlan(
        topo_order=topo_order,
        primaries={m: champion for m, champion in champions.items() if champion is not None},
        shadows={m: models[m].shadows for m in topo_order if models[m].shadows},
        edges=edges,
        models=dict(models),
        broken=broken,
        settings=settings,
    )


def _error_of(model: ModelSpec) -> RegistrationError | None:
    try:
        require_id("model_id", model.model_id)
    except ValueError as error:
        return RegistrationError(str(error))
    champions = [v.label for v in model.versions if v.role is Role.PRIMARY]
    if len(champions) > 1:
        return RegistrationError(f"model {model.model_id!r} has {len(champions)} champions: {champions}")
    for version in model.versions:
        if version.model_id != model.model_id:
            return RegistrationError(f"version {version.label!r} is listed under model {model.model_id!r}")
    keys = [(version.version, version.is_replay) for version in model.versions]
    if len(set(keys)) < len(keys):
        return RegistrationError(f"model {model.model_id!r} has a version twice: {sorted(keys)}")
    return None


def _unknown_upstreams(model: ModelSpec, models: Mapping[str, ModelSpec]) -> Iterator[UnknownUpstream]:
    """Iterate over upstreams that are not models, such as a version `model@2`: only champions are read."""
    for upstream in model.depends_on:
        if upstream not in models:
            name = upstream.partition("@")[0]
            near = name if name in models else nearest(upstream, models)
            yield UnknownUpstream(model.model_id, upstream, near)


def _ordered(reads: Mapping[str, Iterable[str]]) -> Iterator[str]:
    sorter = TopologicalSorter(reads)
    sorter.prepare()
    ready = list(sorter.get_ready())
    heapify(ready)
    while ready:
        model_id = heappop(ready)
        yield model_id
        sorter.done(model_id)
        for freed in sorter.get_ready():
            heappush(ready, freed)


def _loops(reads: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, ...]]:
    """For every model on a loop, by name, the shortest loop through it."""
    try:
        TopologicalSorter(reads).prepare()
    except CycleError:
        for model_id in sorted(reads):
            loop = shortest_loop(model_id, reads)
            if loop:
                yield loop


def shortest_loop(
    model_id: str, reads: Mapping[str, Iterable[str]], *, via: str | None = None
) -> tuple[str, ...]:
    """Return the shortest loop through a model, which is its first and its last id; empty if there is none.

    Of several that are as short it is the first by name.

    Args:
        reads: the upstreams of each model; one that is not a key reads nothing.
        via: the upstream of the model that the loop goes to first; any of them unless given.
    """
    came_from: dict[str, str] = {}
    queue = deque([model_id])
    while queue:
        here = queue.popleft()
        is_first = here == model_id  # it comes up once: the search ends where an edge leads back to it
        for upstream in [via] if is_first and via is not None else sorted(reads.get(here, ())):
            if upstream == model_id:
                path = [model_id, here]
                while path[-1] != model_id:
                    path.append(came_from[path[-1]])
                return tuple(reversed(path))
            if upstream not in came_from:
                came_from[upstream] = here
                queue.append(upstream)
    return ()


def _settings_json(settings: CycleSettings) -> dict[str, Any]:  # Any: JSON
    return {
        "lookback_s": settings.lookback.total_seconds(),
        "input_query": settings.input_query,
        "time_key": settings.time_key,
    }


def _settings_of(values: Mapping[str, Any]) -> CycleSettings:  # Any: JSON
    fields = dict(values)
    return CycleSettings(lookback=timedelta(seconds=fields.pop("lookback_s")), **fields)


def model_json(model: ModelSpec) -> dict[str, Any]:  # Any: JSON
    """Return a model as JSON values, its versions in order; `model_of` reads it back."""
    return {
        "model_id": model.model_id,
        "cycle_id": model.cycle_id,
        "depends_on": list(model.depends_on),
        "entrypoint": model.entrypoint,
        "score_key": model.score_key,
        "entity_key": model.entity_key,
        "task_options": plain(model.task_options),
        "is_enabled": model.is_enabled,
        "versions": [
            {
                "version": version.version,
                "version_id": version.version_id,
                "role": str(version.role),
                "entrypoint": version.entrypoint,
                "params": plain(version.params),
                **({"artifact": asdict(version.artifact)} if version.artifact else {}),
                "is_replay": version.is_replay,
            }
            for version in sorted(model.versions, key=lambda v: (v.version, v.is_replay))
        ],
    }


def model_of(values: Mapping[str, Any]) -> ModelSpec:  # Any: JSON
    """Read what `model_json` wrote; KeyError, TypeError or ValueError if it is something else."""
    fields = dict(values)
    versions = tuple(
        VersionSpec(
            **{
                **version,
                "model_id": fields["model_id"],
                "role": Role(version["role"]),
                "artifact": Artifact.of(version.get("artifact")),
            }
        )
        for version in fields.pop("versions")
    )
    return ModelSpec(**{**fields, "depends_on": tuple(fields["depends_on"]), "versions": versions})
