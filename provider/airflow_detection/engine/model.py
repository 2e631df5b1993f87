"""The contract of a model: its base class, the context of a run, and its result."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import JsonMapping, frozen, plain
from airflow_detection.domain.scores import SCORE_RANGE
from airflow_detection.domain.specs import Cycle, Role, Window, require_id
from airflow_detection.engine.training import TrainedModel, TrainingContext
from airflow_detection.errors import TerminalModelError


class Upstream(Protocol):
    """A champion's stored outputs, read-only, as its dependents see them."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[JsonMapping, JsonMapping]]:
        """Iterate over (input_ref, output), in batches from where they are stored."""

    def columns(self) -> tuple[Sequence[str | None], Sequence[float | None]]:
        """Entity ids and scores alone, in the same order: much cheaper than the mappings."""


class ReadOnlyDatabase(Protocol):
    """Read-only access to the registry's database, for a model that needs more than its inputs."""

    def query(self, sql: str, params: JsonMapping | None = None) -> Inputs:
        """Run one SELECT with `:name` parameters; `:window_start` and `:window_end` are always there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelContext:
    """Context of one run: everything in it is read-only.

    `shared` maps a model id of `depends_on` to the outputs of that model's champion. `database` is None
    where there is none (unit tests).
    """

    cycle: Cycle
    params: JsonMapping = field(default_factory=dict)
    inputs: Inputs = field(default_factory=Inputs)
    shared: Mapping[str, Upstream] = field(default_factory=dict)
    database: ReadOnlyDatabase | None = None
    role: Role = Role.PRIMARY
    log: logging.Logger | logging.LoggerAdapter[logging.Logger] = field(
        default_factory=lambda: logging.getLogger("airflow_detection.model")
    )

    @property
    def window(self) -> Window:
        """The half-open interval of data that this cycle looks at, UTC."""
        return self.cycle.window


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResult:
    """Result of one run.

    `outputs_per_input` may be a generator: it is consumed once, while it is stored. A metric that is None
    is left out. `features` holds the columns the model really computed with, sequences or arrays of numpy,
    for the profile in the manifest: the cycle's time column among them tells which newest row it used,
    `read:<upstream>` holds the scores that it read there, and `ratio:<name>` a ratio for each entity that
    must stay near its usual value, such as one of two speeds. `duration_ms` is filled in by the engine when
    it is None.
    """

    outputs_per_input: Iterable[tuple[JsonMapping, JsonMapping]] = ()
    metrics: Mapping[str, float | int | None] = field(default_factory=dict)
    features: Mapping[str, Collection[Any]] = field(default_factory=dict)  # Any: numbers or text, or null
    duration_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A synthetic input with a known score, which travels with each run and is never stored.

    `entity_id` must not occur among real inputs; start it with `canary:` or use an identity that is
    reserved. `rows` go behind the real inputs; `upstream` adds outputs to `ctx.shared` for this run. With
    `needs_upstream` the canary is left out where a model of `upstream` is not in `ctx.shared`.
    """

    entity_id: str
    rows: tuple[JsonMapping, ...]
    expected: float | None
    upstream: Mapping[str, tuple[tuple[JsonMapping, JsonMapping], ...]] = field(default_factory=dict)
    needs_upstream: bool = False


_loaded: dict[tuple[type[BaseDetectionModel], Path, str], Any] = {}  # Any: what each class made of a file


def load_once(
    model: type[BaseDetectionModel], path: Path, params: JsonMapping
) -> Any:  # Any: as `BaseDetectionModel.load`
    """Load an artefact for a class, unless this process, or the one that it was forked from, has done so."""
    used = {name: params[name] for name in model.load_params if name in params}
    key = (model, path, repr(plain(used)))
    if key not in _loaded:
        _loaded[key] = model.load(path, used)
    return _loaded[key]


class BaseDetectionModel(ABC):
    """A detection model: subclass it, implement `run`, register the class as an entry point.

    Args:
        model_id: the registered name, at most 64 characters (ValueError otherwise).
        version: the registered version.
        params: the version's params; the model sees them read-only.
    """

    features: ClassVar[tuple[str, ...]] = ()
    """Names of the columns whose null rate and distinct ratio are profiled in each run."""

    projection: ClassVar[str | None] = None
    """A file of `sql/queries` whose statement `refresh` the store runs with `%(model_id)s` after a PRIMARY
    run, in the transaction that stores its outputs and events: for a table that is derived from them."""

    score_range: ClassVar[tuple[float, float]] = SCORE_RANGE
    """The lowest and the highest score that it gives, both included; a score beyond them fails the run.
    Higher is worse: events, severities and counts of high scores follow from that."""

    counts_need_past: ClassVar[bool] = True
    """Whether its counts are low until all of the past that it reads is there (see `reads_since`)."""

    history_tables: ClassVar[tuple[str, ...]] = ()
    """The tables that its queries read from `reads_since` on: retention leaves that much of them."""

    load_params: ClassVar[tuple[str, ...]] = ()
    """The params that `load` needs: versions that differ in others share what is loaded of one artefact."""

    learns_from_labels: ClassVar[bool] = False
    """Whether `train` needs labels: without any that was known then a training is refused."""

    shard_by: ClassVar[str | None] = None
    """`"entity"` if it judges each entity of its inputs by itself, whatever other entities there are: its
    versions can then run in shards, each with the rows of some entities (the task option `shards`)."""

    metrics_of_shards: ClassVar[Mapping[str, str]] = {}
    """How its metrics become those of the version when it runs in shards, by key: `max`, `min`, or `mean`,
    weighted by the outputs of each shard. All others are added up."""

    def __init__(self, model_id: str, version: str = "0", params: JsonMapping | None = None) -> None:
        self.model_id = require_id("model_id", model_id)
        self.version = version
        self.params: JsonMapping = frozen(params or {})
        self.artifact: Path | None = None
        """The checked file of the version's artefact, to be read; None if the version names none."""

    @classmethod  # noqa: B027 - a hook that most models need not fill
    def prepare(cls) -> None:
        """Load what every run needs, such as a large table; nothing unless overridden.

        A task of an inline cycle calls this once for each champion's class, before it forks its versions.
        """

    @classmethod
    def load(cls, path: Path, params: JsonMapping) -> Any:  # Any: what the class makes of it
        """Make of an artefact's file what `self.loaded` gives; the path itself unless overridden.

        `params` has those of the version's params that `load_params` names. A task of an inline cycle calls
        this once for each champion's class and artefact, before it forks its versions: nothing that is loaded
        may need threads of that process, or open files.
        """
        return path

    @classmethod
    def train(cls, ctx: TrainingContext) -> TrainedModel:
        """Learn from past windows, and return the files of an artefact for a new version of this class.

        It runs in a process of its own, confined as `run` is, when a training is asked for.

        Raises:
            TransientModelError: trying again may help.
            TerminalModelError: trying again will not help; the class has no training step unless it
                overrides this.
        """
        raise TerminalModelError(f"{cls.__name__} has no training step: it does not override train")

    @property
    def loaded(self) -> Any:  # Any: as `load`
        """What `load` made of the version's artefact, once a process; TerminalModelError if it has none."""
        if self.artifact is None:
            raise TerminalModelError(f"{self.model_id}@{self.version} has no artefact: its class needs one")
        return load_once(type(self), self.artifact, self.params)

    @abstractmethod
    def run(self, ctx: ModelContext) -> ModelResult:
        """Look at the cycle's window and return one output per input that was judged.

        Raises:
            TransientModelError: trying again may help.
            TerminalModelError: trying again will not help.
        """

    def reads_since(self, cycle: Cycle) -> datetime | None:
        """Return the instant (UTC) from which the model reads data; None if it reads its window alone.

        A model that looks back for hours finds little in the first hours of a pipeline. Its counts are
        compared once that much past was there.
        """
        return None

    def canaries(self, cycle: Cycle) -> Iterable[Canary]:
        """Return the synthetic inputs to add to this cycle's run; none unless overridden."""
        return ()
