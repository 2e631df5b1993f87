"""One step of a cycle's plan: find it, check that it can run, and make its job."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType

from airflow_detection.cycle.planning import OpenedCycle, planned_cycle
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Cycle, CycleSpec, Mode, ModelSpec, Outcome, Role, VersionSpec
from airflow_detection.engine.artifact_files import Opener, open_local
from airflow_detection.engine.artifacts import ArtifactCache
from airflow_detection.engine.entrypoints import Registry
from airflow_detection.engine.job import Job, not_run_report
from airflow_detection.engine.plan import ExecutionPlan
from airflow_detection.errors import NotInPlan, PlanError, RegistrationError
from airflow_detection.store import registry
from airflow_detection.store.database import Database
from airflow_detection.store.input_facts import with_profiles
from airflow_detection.store.manifests import Manifest, manifests, record_missing_run
from airflow_detection.store.reader import Reader

Manifests = Mapping[tuple[int, bool], Manifest]
"""Manifests of one cycle by (version_id, is_replay)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRequest:
    """Request for the run of a version: for which cycle, and in which mode the plan of it was recorded.

    Args:
        started_at: the cycle's instant, UTC.
        version: None stands for the champion of the cycle.
        cycle_id: None stands for the model's own cycle.
        is_opened: the Dag opens its cycle first, so that there is a recorded plan, and no other counts.
        is_beside_champion: another task runs the champion, so that it is not run by its version.
    """

    model_id: str
    started_at: datetime
    version: str | None = None
    cycle_id: str | None = None
    mode: Mode = Mode.AS_OF
    is_opened: bool = False
    is_beside_champion: bool = False


def find_step(db: Database, request: VersionRequest) -> tuple[OpenedCycle, VersionSpec]:
    """Return the cycle of a request, and the step of its plan that is to run.

    Raises:
        NotInPlan: the version is registered, and the plan of the opened cycle does not have it.
        PlanError: the plan has no such version.
        RegistrationError: the model's registration is broken; the message is the reason.
    """
    model_id = request.model_id
    cycle_id = request.cycle_id or registry.cycle_of(db, model_id)
    opened = planned_cycle(db, cycle_id, request.started_at, mode=request.mode)
    if request.is_opened and not opened.is_recorded:
        raise NotInPlan(
            f"not in this cycle's plan: {_name(request)}; none was recorded, the registry was off"
        )
    if model_id in opened.plan.broken:
        raise RegistrationError(f"model {model_id!r} cannot run: {opened.plan.broken[model_id]}")
    step = _step(opened, request)
    if step is not None:
        return opened, step
    cycle = f"{cycle_id!r} at {opened.cycle.started_at.isoformat()}"
    if request.is_opened and _is_registered(db, request):
        raise NotInPlan(f"not in this cycle's plan: {_name(request)}, cycle {cycle}")
    missing = f"version {request.version!r} in a role" if request.version else "a champion"
    raise PlanError(f"the plan of {cycle} has no model {model_id!r} with {missing}")


def _name(request: VersionRequest) -> str:
    role = "" if request.version is None else f" version {request.version!r}"
    return f"model {request.model_id!r}{role}"


def _is_registered(db: Database, request: VersionRequest) -> bool:
    """Tell whether the version is registered; without one the model, which `cycle_of` or the plan knows."""
    versions = registry.versions(db, request.model_id)
    return any(request.version in (None, v.version) for v in versions)


def skip_unrunnable(db: Database, opened: OpenedCycle, step: VersionSpec) -> RunReport | None:
    """Store the manifest of a step that cannot run, and return its report; None if it can run."""
    cycle = opened.cycle
    cycle_manifests = manifests(db, cycle.cycle_id, cycle.started_at)
    if (reason := _unrunnable_reason(opened.plan, step, cycle_manifests)) is None:
        return None
    record_missing_run(db, cycle, step, Outcome.SKIPPED, reason)
    return not_run_report(step, Outcome.SKIPPED, reason)


def artifact_cache(settings: Settings, opener: Opener = open_local) -> ArtifactCache:
    """Return the artefacts of this machine; `opener` reads those that are not here."""
    return ArtifactCache(settings.artifact_cache, settings.artifact_cache_mib * 2**20, opener)


def job_of(
    settings: Settings,
    opened: OpenedCycle,
    step: VersionSpec,
    inputs: Callable[[], Inputs],
    artifacts: ArtifactCache,
) -> Job:
    """Return the job of one step of a plan."""
    plan = opened.plan
    return Job(
        model=plan.models[step.model_id],
        version=step,
        cycle=opened.cycle,
        instantiate=Registry(plan.models.values(), allowed_prefixes=settings.allowed_prefixes).instantiate,
        inputs=inputs,
        upstreams={u: plan.primaries[u] for u in plan.upstreams(step.model_id)},
        artifact=partial(artifacts.of, step),
    )


def positive_option(model: ModelSpec, name: str) -> float | None:
    """Return a task option of a model if it is a number above zero; else None."""
    value = model.task_options.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
        return None
    return float(value)


def cycle_reader(db: Database, opened: OpenedCycle, *, timeout_s: float | None = None) -> Reader:
    """Return read-only access to the registry's database for the versions of one cycle, limited in seconds.

    Queries have `:window_start`, `:window_end`, `:cycle_started_at` and `:opened_at`; an input query that
    leaves out what arrived after `:opened_at` shows all versions the same rows.
    """
    return window_reader(db, opened.cycle, opened.opened_at, timeout_s=timeout_s)


def window_reader(
    db: Database,
    cycle: Cycle,
    opened_at: datetime,
    *,
    timeout_s: float | None = None,
    more: JsonMapping = MappingProxyType({}),
) -> Reader:
    """Return read-only access for a cycle that was opened at an instant; see `cycle_reader`.

    Args:
        more: params that queries have besides.
    """
    params = {
        "window_start": cycle.window.start,
        "window_end": cycle.window.end,
        "cycle_started_at": cycle.started_at,
        "opened_at": opened_at,
    } | dict(more)
    return Reader(db, params, timeout_s=timeout_s)


def read_inputs(reader: Reader, spec: CycleSpec) -> Inputs:
    """Return the rows of the cycle's input query, with their digest and newest time; none without a query.

    Raises:
        TerminalModelError: the database refused the query, or its time column holds no times.
        RegistryUnavailable: the database did not answer.
    """
    if not spec.input_query:
        return Inputs()
    began = time.perf_counter()
    inputs = with_profiles(reader.read(spec.input_query), spec.time_key)
    return replace(inputs, read_ms=(time.perf_counter() - began) * 1000)


def _step(opened: OpenedCycle, request: VersionRequest) -> VersionSpec | None:
    plan, model_id, version = opened.plan, request.model_id, request.version
    primary = plan.primaries.get(model_id)
    shadows = plan.shadows.get(model_id, ())
    step = primary if version is None else next((v for v in shadows if v.version == version), None)
    if step is None and primary is not None and primary.version == version:
        return None if request.is_beside_champion else primary
    return step


def _unrunnable_reason(plan: ExecutionPlan, step: VersionSpec, cycle_manifests: Manifests) -> str | None:
    """Return why the step cannot run: it is switched off, or a champion that it needs has no result."""
    if not plan.is_enabled(step.model_id):
        return f"model {step.model_id!r} is switched off"
    needed_models = list(plan.upstreams(step.model_id))
    if step.role is not Role.PRIMARY and not step.is_replay:
        needed_models.insert(0, step.model_id)
    for model_id in needed_models:
        champion = plan.primaries.get(model_id)
        manifest = cycle_manifests.get((champion.version_id, False)) if champion else None
        if manifest is None or manifest.outcome is not Outcome.SUCCEEDED:
            state = manifest.outcome.value.lower() if manifest else "not run" if champion else "not appointed"
            return f"the champion of {model_id!r} has no result in this cycle: {state}"
    return None
