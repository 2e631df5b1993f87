"""The plan of a cycle: resolved and recorded when the cycle opens, then read by each of its tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from time import sleep

from airflow_detection.domain.specs import (
    Cycle,
    CycleSettings,
    CycleSpec,
    Mode,
    ModelSpec,
    Outcome,
    Role,
    VersionSpec,
    require_utc,
)
from airflow_detection.engine.plan import ExecutionPlan, build_plan
from airflow_detection.errors import ClockBehind, PlanError, StorageError
from airflow_detection.store import cycle_runs, registry
from airflow_detection.store.database import Database
from airflow_detection.store.manifests import manifests

MAX_CLOCK_SKEW_S = 5.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedCycle:
    """Cycle with the plan that was recorded for it, and the mode it was recorded in.

    `spec` and `cycle` have the settings of the plan, which need not be those of today.

    `is_recorded` is False for a hand-written Dag, whose plan is resolved anew by each task.
    """

    spec: CycleSpec
    cycle: Cycle
    plan: ExecutionPlan
    digest: str
    opened_at: datetime
    mode: Mode = Mode.AS_OF
    is_recorded: bool = True

    @property
    def steps(self) -> tuple[VersionSpec, ...]:
        """Versions to run, each champion before its shadows and before its dependents."""
        return tuple(steps_of(self.plan, self.mode))


def steps_of(plan: ExecutionPlan, mode: Mode) -> Iterator[VersionSpec]:
    """Iterate over the versions that run in `mode`: the whole plan, or in `override` its replays alone."""
    if mode is not Mode.OVERRIDE:
        yield from plan.steps()
        return
    for model_id in plan.topo_order:
        yield from (v for v in plan.shadows.get(model_id, ()) if v.is_replay)


def resolve_plan(
    db: Database,
    cycle: Cycle,
    *,
    mode: Mode = Mode.AS_OF,
    replay: Sequence[str] = (),
    known_at: datetime | None = None,
) -> ExecutionPlan:
    """Return the plan of a cycle.

    Args:
        mode: `as_of` takes the roles in force at the cycle, as they were known at `known_at` (at the cycle
            itself when None); `as_run` the plan recorded when the cycle ran; `override` the champions of
            `as_of` with the versions named in `replay` (`model@version`) as replays.

    Raises:
        PlanError: no recorded plan, no version named, a version that is not registered or of another cycle.
    """
    if mode is not Mode.OVERRIDE and replay:
        raise PlanError(
            f"mode {mode.value!r} takes no versions to replay: needs mode {Mode.OVERRIDE.value!r}"
        )
    if mode is Mode.AS_RUN:
        recorded = cycle_runs.recorded_plan(db, cycle.cycle_id, cycle.started_at, Mode.AS_OF)
        if recorded is None:
            raise PlanError(f"no plan was recorded for {cycle.cycle_id!r} at {cycle.started_at.isoformat()}")
        return with_current_switches(db, cycle, ExecutionPlan.from_json(recorded.plan))
    known_at = None if known_at is None else require_utc("known_at", known_at)
    specs = registry.models_at(db, cycle.cycle_id, cycle.started_at, known_at)
    if mode is Mode.OVERRIDE:
        if not replay:
            raise PlanError(f"mode {mode.value!r} needs versions to replay, as 'model@version'")
        specs = _with_replays(db, cycle, specs, replay)
    settings = registry.settings_at(db, cycle.cycle_id, cycle.started_at, known_at)
    return build_plan(specs, strict=False, settings=settings)


def _settings_of(db: Database, cycle: Cycle, plan: ExecutionPlan) -> CycleSettings:
    """Return the settings of a plan; of one that was recorded without any, those in force at the cycle."""
    return plan.settings or registry.settings_at(db, cycle.cycle_id, cycle.started_at)


def with_current_switches(db: Database, cycle: Cycle, plan: ExecutionPlan) -> ExecutionPlan:
    """Return a recorded plan with today's `is_enabled` and `events`, which are no part of its identity."""
    switches = registry.switches(db, cycle.cycle_id)
    models = {key: replace(model, **switches.get(key, {})) for key, model in plan.models.items()}
    return replace(plan, models=models)


def open_cycle(
    db: Database,
    cycle_id: str,
    started_at: datetime,
    *,
    mode: Mode,
    replay: Sequence[str] = (),
    known_at: datetime | None = None,
    dag_run_id: str | None = None,
) -> OpenedCycle:
    """Make the cycle's table partitions, resolve its plan and record it.

    A cycle keeps the plan that it first ran with. If `as_of` gives another plan now, by what is known since,
    the versions that are new in it run as replays, and the returned mode is `override`.

    Raises:
        PlanError: no plan can be given (see `resolve_plan`), or nothing would run in it.
        ClockBehind: the cycle lies in the registry's future.
        ExpiredPartition: retention has removed the cycle's month.
    """
    spec = registry.cycle_spec(db, cycle_id)
    cycle = spec.at(started_at)
    _ensure_months(db, cycle)
    _wait_for(db, cycle)
    return _open(db, spec, cycle, mode=mode, replay=replay, known_at=known_at, dag_run_id=dag_run_id)


def open_cycles(
    db: Database, cycle_id: str, starts: Sequence[datetime], *, mode: Mode, replay: Sequence[str] = ()
) -> list[OpenedCycle]:
    """Open several cycles, in order of time, each as `open_cycle` does; raises as it does."""
    spec = registry.cycle_spec(db, cycle_id)
    cycles = [spec.at(started_at) for started_at in starts]
    for _, cycles_of_day in groupby(cycles, lambda cycle: cycle.started_at.date()):
        _ensure_months(db, next(cycles_of_day))
    if cycles:
        _wait_for(db, cycles[-1])
    return [_open(db, spec, cycle, mode=mode, replay=replay) for cycle in cycles]


def _open(
    db: Database,
    spec: CycleSpec,
    cycle: Cycle,
    *,
    mode: Mode,
    replay: Sequence[str],
    known_at: datetime | None = None,
    dag_run_id: str | None = None,
) -> OpenedCycle:
    """Resolve the plan of a cycle and record it."""
    with registry.with_shared_lock(db):  # nothing changes between the plan and its record
        plan = resolve_plan(db, cycle, mode=mode, replay=replay, known_at=known_at)
        _require_steps(cycle, plan, mode)
        mode, plan, opened_at = _record(db, cycle, mode, plan, known_at, dag_run_id)
    log.info(
        "plan %s of %s at %s: %s", plan.digest[:12], cycle.cycle_id, cycle.started_at.isoformat(), mode.value
    )
    for model_id, reason in plan.broken.items():
        log.error("model %s cannot run: %s", model_id, reason)
    return _opened(db, spec, cycle, plan, opened_at, mode)


def _require_steps(cycle: Cycle, plan: ExecutionPlan, mode: Mode) -> None:
    """Refuse a plan in which nothing would run; unrecorded, it does not stand in the way of a better one."""
    if plan.broken or any(plan.is_enabled(step.model_id) for step in steps_of(plan, mode)):
        return
    prefix = f"nothing would run in cycle {cycle.cycle_id!r} at {cycle.started_at.isoformat()}"
    if off := [model_id for model_id in plan.primaries if not plan.is_enabled(model_id)]:
        raise PlanError(f"{prefix}: every model with a champion is switched off: {', '.join(off)}")
    if plan.without_primary:
        models = ", ".join(plan.without_primary)
        raise PlanError(f"{prefix}: no champion, and shadows alone do not run: {models}")
    raise PlanError(
        f"{prefix}: no version held a role then, as it was known; a role holds from the moment it is"
        " recorded, and only the first roles of a model that has not run may begin earlier ('since')"
    )


def planned_cycle(db: Database, cycle_id: str, started_at: datetime, *, mode: Mode) -> OpenedCycle:
    """Return the cycle with its recorded plan, or (for a hand-written Dag) with the plan as of the cycle.

    Raises:
        PlanError: unknown cycle, or `override` without a recorded plan.
        ClockBehind: no plan is recorded, and the cycle lies in the registry's future.
    """
    spec = registry.cycle_spec(db, cycle_id)
    cycle = spec.at(started_at)
    recorded = cycle_runs.recorded_plan(db, cycle_id, cycle.started_at, mode)
    if recorded is None:
        _ensure_months(db, cycle)
        _wait_for(db, cycle)
        plan = resolve_plan(db, cycle, mode=mode)
        opened_at = registry.clock(db)
    else:
        plan = with_current_switches(db, cycle, ExecutionPlan.from_json(recorded.plan))
        opened_at = recorded.opened_at
    return _opened(db, spec, cycle, plan, opened_at, mode, is_recorded=recorded is not None)


def _opened(
    db: Database,
    spec: CycleSpec,
    cycle: Cycle,
    plan: ExecutionPlan,
    opened_at: datetime,
    mode: Mode,
    *,
    is_recorded: bool = True,
) -> OpenedCycle:
    spec = spec.with_settings(_settings_of(db, cycle, plan))
    return OpenedCycle(
        spec=spec,
        cycle=spec.at(cycle.started_at),
        plan=plan,
        digest=plan.digest,
        opened_at=opened_at,
        mode=mode,
        is_recorded=is_recorded,
    )


def without_result(
    db: Database, opened: OpenedCycle, steps: Sequence[VersionSpec], *, tried: Sequence[str] = ()
) -> list[VersionSpec]:
    """Return those of some steps of a plan that have no result: skipped, failed, or without a manifest.

    Args:
        tried: labels of versions that count only if they were skipped.
    """
    stored = manifests(db, opened.cycle.cycle_id, opened.cycle.started_at)

    def is_wanting(step: VersionSpec) -> bool:
        manifest = stored.get((step.version_id, step.is_replay))
        outcome = manifest.outcome if manifest else None
        return outcome is Outcome.SKIPPED if step.label in tried else outcome is not Outcome.SUCCEEDED

    return [s for s in steps if is_wanting(s)]


def _with_replays(
    db: Database, cycle: Cycle, specs: Sequence[ModelSpec], replay: Sequence[str]
) -> list[ModelSpec]:
    replays = registry.named_versions(db, list(dict.fromkeys(replay)))
    models = {spec.model_id: spec for spec in specs}
    for model in registry.model_specs(db):  # a model that had no role yet may be replayed
        if model.cycle_id == cycle.cycle_id:
            models.setdefault(model.model_id, model)
    if foreign := sorted(v.label for v in replays if v.model_id not in models):
        raise PlanError(f"not versions of cycle {cycle.cycle_id!r}: {', '.join(foreign)}")
    planned_ids = {spec.model_id for spec in specs} | {v.model_id for v in replays}
    return [
        replace(
            spec,
            versions=(
                *(v for v in spec.versions if v.role is Role.PRIMARY),
                *(v for v in replays if v.model_id == spec.model_id),
            ),
        )
        for spec in models.values()
        if spec.model_id in planned_ids
    ]


def _record(
    db: Database,
    cycle: Cycle,
    mode: Mode,
    plan: ExecutionPlan,
    known_at: datetime | None,
    dag_run_id: str | None,
) -> tuple[Mode, ExecutionPlan, datetime]:
    """Record the plan; where another one is live, record the comparison with it instead.

    Returns the mode and the plan that were recorded, and when the cycle was opened.
    """

    def record(mode: Mode, plan: ExecutionPlan, *, is_first_to_stay: bool = False) -> datetime | None:
        return cycle_runs.record_plan(
            db, cycle, mode, plan.to_json(), plan.digest, dag_run_id, is_first_to_stay=is_first_to_stay
        )

    live = None
    if mode is Mode.AS_OF:
        live = _unrecorded_plan(db, cycle) if known_at is not None else None
        if live is None:
            if (opened_at := record(mode, plan, is_first_to_stay=True)) is not None:
                return mode, plan, opened_at
            live = _recorded_plan(db, cycle)
    if live is not None:
        live = replace(live, settings=_settings_of(db, cycle, live))
        if _composition(live) != _composition(plan):
            mode, plan = Mode.OVERRIDE, _as_comparison(db, cycle, live, plan)
    if (opened_at := record(mode, plan)) is None:
        raise StorageError(f"the plan of {cycle.cycle_id!r} was not recorded")
    return mode, plan, opened_at


def _recorded_plan(db: Database, cycle: Cycle) -> ExecutionPlan | None:
    recorded = cycle_runs.recorded_plan(db, cycle.cycle_id, cycle.started_at, Mode.AS_OF)
    return with_current_switches(db, cycle, ExecutionPlan.from_json(recorded.plan)) if recorded else None


def _unrecorded_plan(db: Database, cycle: Cycle) -> ExecutionPlan | None:
    """Return the plan of a hand-written Dag that ran the cycle: it leaves manifests and records no plan."""
    cycle_manifests = manifests(db, cycle.cycle_id, cycle.started_at)
    if all(is_replay for _, is_replay in cycle_manifests) or _recorded_plan(db, cycle) is not None:
        return None
    return resolve_plan(db, cycle)


def _composition(plan: ExecutionPlan) -> tuple[object, ...]:
    """Return the roles of the versions, edges and settings: plans with the same ones run the same cycle."""
    versions = (v for model in plan.models.values() for v in model.versions)
    return frozenset((v.version_id, v.role) for v in versions), frozenset(plan.edges), plan.settings


def _as_comparison(db: Database, cycle: Cycle, live: ExecutionPlan, plan: ExecutionPlan) -> ExecutionPlan:
    """Return the live plan's champions, with the versions that are new, or newly champions, as replays.

    Where the cycle reads something else, every version is new.
    """
    live_steps = {v.version_id for v in live.steps()}
    live_champions = {v.version_id for v in live.primaries.values()}
    labels = [
        v.label
        for v in plan.steps()
        if plan.settings != live.settings
        or v.version_id not in (live_champions if v.role is Role.PRIMARY else live_steps | live_champions)
    ]
    log.warning(
        "cycle %s at %s ran with another plan, which stays; as replays: %s",
        cycle.cycle_id,
        cycle.started_at.isoformat(),
        ", ".join(labels) or "none",
    )
    specs = _with_replays(db, cycle, tuple(live.models.values()), labels)
    return build_plan(specs, strict=False, settings=plan.settings)


def _ensure_months(db: Database, cycle: Cycle) -> None:
    """Create the cycle's table partitions where they are missing."""
    from airflow_detection.store.partitions.create import ensure_cycle_months  # here: few tasks need it

    ensure_cycle_months(db, cycle.started_at)


def _wait_for(db: Database, cycle: Cycle) -> None:
    """Wait where the registry's clock is a little behind the cycle; ClockBehind where it is more.

    A plan for an instant in the registry's future could still change, unless a later cycle was planned.
    """
    ahead_s = (cycle.started_at - registry.settled_until(db, cycle.cycle_id)).total_seconds()
    if ahead_s > MAX_CLOCK_SKEW_S:
        raise ClockBehind(
            f"cycle {cycle.cycle_id!r} at {cycle.started_at.isoformat()} lies {ahead_s:.0f} s in the future"
            f" of the registry's clock: must be at most {MAX_CLOCK_SKEW_S:.0f} s"
        )
    sleep(max(ahead_s, 0.0))
