"""Plan of a training: which past windows and labels a new version learns from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from airflow_detection.cycle.planning import OpenedCycle
from airflow_detection.domain.cron import ticks
from airflow_detection.domain.specs import (
    Cycle,
    CycleSpec,
    ModelSpec,
    Role,
    VersionSpec,
    Window,
    artifact_problems,
    require_utc,
)
from airflow_detection.engine.plan import build_plan
from airflow_detection.errors import RegistrationError
from airflow_detection.store import registry
from airflow_detection.store.database import Database
from airflow_detection.store.labels import Label, known_instant, known_labels
from airflow_detection.store.trainings import Training

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """Request for a new version of a model, learned from data of [start, end).

    Args:
        base: the registered version whose class has the training step and whose params the new one has.
        as_of: what was known later does not count, UTC; the registry's clock where None.
        target: the folder, a path or a URI, into which the artefact is written.
        seed: all that is random in the training follows from it.
    """

    model_id: str
    version: str
    base: str
    start: datetime
    end: datetime
    as_of: datetime | None = None
    target: str
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("start", "end", "as_of"):
            if (instant := getattr(self, name)) is not None:
                object.__setattr__(self, name, require_utc(name, instant))

    @property
    def label(self) -> str:
        """`model@version`, as people write it."""
        return f"{self.model_id}@{self.version}"

    @property
    def span(self) -> str:
        """The data interval, as people write it."""
        return f"[{self.start.isoformat()}, {self.end.isoformat()})"

    def is_of(self, known: Training) -> bool:
        """Tell whether a training is what is asked for."""
        return (self.base, self.start, self.end, self.seed, self.as_of or known.as_of) == (
            known.base_version, known.data_start, known.data_end, known.seed, known.as_of,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What a training reads: cycles whose windows do not overlap, and the labels that were known."""

    request: TrainingRequest
    model: ModelSpec
    version: VersionSpec
    opened: OpenedCycle
    cycles: Sequence[Cycle]
    labels: Sequence[Label]

    @property
    def as_of(self) -> datetime:
        """The instant as of which it trains, UTC."""
        return self.opened.opened_at


def plan_training(db: Database, request: TrainingRequest) -> TrainingPlan:
    """Return what a training reads, as of the instant that it is asked for; no rows are read yet.

    Raises:
        RegistrationError: the request cannot be met; the message says why.
        PlanError: the model, or its base, is not registered, or `as_of` is in the future.
    """
    as_of = _checked_as_of(db, request)
    (base,) = registry.named_versions(db, [f"{request.model_id}@{request.base}"])
    (model,) = (spec for spec in registry.model_specs(db) if spec.model_id == request.model_id)
    spec = _cycle_as_of(db, model.cycle_id, as_of)
    interval = Cycle(cycle_id=spec.cycle_id, started_at=request.end, lookback=request.end - request.start)
    cycles = [spec.at(at) for at in _apart(spec.schedule, interval.window, spec.lookback)]
    if not cycles:
        raise RegistrationError(
            f"no cycle of {spec.cycle_id!r} has its window of {spec.lookback} within {request.span}"
        )
    return TrainingPlan(
        request=request,
        model=model,
        version=replace(
            base, version=request.version, role=Role.CHALLENGER, artifact=None, version_id=0, is_replay=False
        ),
        opened=OpenedCycle(
            spec=spec, cycle=interval, plan=build_plan((), strict=False), digest="", opened_at=as_of
        ),
        cycles=cycles,
        labels=_labels(db, model, cycles, as_of),
    )


def _checked_as_of(db: Database, request: TrainingRequest) -> datetime:
    """Return the instant as of which to train; raises if the data interval does not end by then."""
    if request.start >= request.end:
        raise RegistrationError(f"the data interval of {request.label} is empty: {request.span}")
    if reason := next(artifact_problems({"uri": request.target, "sha256": "0" * 64}), None):
        raise RegistrationError(f"the target of {request.label} {reason[1]}")
    as_of = known_instant(db, request.as_of)
    if request.end > as_of:
        raise RegistrationError(
            f"the data interval of {request.label} ends at {request.end.isoformat()}: must not end after"
            f" {as_of.isoformat()}, as of which it is trained"
        )
    return as_of


def _cycle_as_of(db: Database, cycle_id: str, as_of: datetime) -> CycleSpec:
    """Return a cycle with the settings that it had; a query that may see what came later is told."""
    settings = registry.settings_at(db, cycle_id, as_of)
    if not settings.input_query:
        raise RegistrationError(f"cycle {cycle_id!r} has no input query: there is nothing to learn from")
    if ":opened_at" not in settings.input_query:
        log.warning(
            "the input query of %s does not name :opened_at: rows that came after %s are learned from, too",
            cycle_id,
            as_of.isoformat(),
        )
    return registry.cycle_spec(db, cycle_id).with_settings(settings)


def _labels(db: Database, model: ModelSpec, cycles: Sequence[Cycle], as_of: datetime) -> list[Label]:
    """Return the labels of some cycles as known at an instant.

    Of overlapping labels of an entity the model's own counts, and of those the newest: it comes last.
    """
    end = cycles[-1].started_at + timedelta(microseconds=1)
    labels = known_labels(
        db, model.cycle_id, model_id=model.model_id, start=cycles[0].started_at, end=end, known_at=as_of
    )
    return sorted(labels, key=lambda label: (label.model_id is not None, label.recorded_at, label.label_id))


def _apart(schedule: str, interval: Window, lookback: timedelta) -> Iterator[datetime]:
    """Yield the ticks whose windows lie within an interval, each the first that overlaps none before it."""
    following = interval.start + lookback
    for tick in ticks(schedule, following, interval.end + timedelta(microseconds=1)):
        if tick >= following:
            yield tick
            following = tick + lookback
