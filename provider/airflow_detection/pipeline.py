"""What happens in a cycle: open it, run its versions, close it. Knows engine and store, not Airflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib import import_module
from time import sleep
from typing import TYPE_CHECKING, Any

import psycopg

from airflow_detection import __version__
from airflow_detection.domain import (
    Cycle,
    CycleSpec,
    CycleSummary,
    Inputs,
    Mode,
    ModelSpec,
    Outcome,
    Role,
    RunReport,
    VersionSpec,
    require_utc,
)
from airflow_detection.engine.plan import ExecutionPlan, build_plan
from airflow_detection.engine.registry import Registry, is_under
from airflow_detection.engine.run import CycleReport, DAGExecutor, summarize
from airflow_detection.engine.version import Job, not_run, run_job
from airflow_detection.errors import (
    EntryPointError,
    PlanError,
    RegistrationError,
)
from airflow_detection.naming import INLINE, OTHER, task_id
from airflow_detection.store import cycles, registry
from airflow_detection.store.input_facts import with_facts
from airflow_detection.store.manifests import Manifest, manifests, note_missing
from airflow_detection.store.outputs import PostgresStore
from airflow_detection.store.partitions import ensure_cycle_months
from airflow_detection.store.queries import load_queries
from airflow_detection.store.reader import Reader

if TYPE_CHECKING:
    from airflow_detection.config import Settings

Conn = psycopg.Connection[Any]  # Any: rows as the statements give them
Manifests = Mapping[tuple[int, bool], Manifest]
MAX_CLOCK_SKEW_S = 5.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedCycle:
    """A cycle with the plan that was recorded for it."""

    cycle: Cycle
    plan: ExecutionPlan
    digest: str
    opened_at: datetime
    mode: Mode = Mode.AS_OF

    @property
    def steps(self) -> tuple[VersionSpec, ...]:
        """The versions to run, each champion before its shadows and before its dependents."""
        return tuple(steps_of(self.plan, self.mode))


def steps_of(plan: ExecutionPlan, mode: Mode) -> Iterator[VersionSpec]:
    """The versions that run in `mode`: the whole plan, or its replays alone when versions are named."""
    if mode is not Mode.OVERRIDE:
        yield from plan.steps()
        return
    for model_id in plan.topo_order:
        yield from (v for v in plan.shadows.get(model_id, ()) if v.is_replay)


def is_enabled(plan: ExecutionPlan, model_id: str) -> bool:
    """Whether the model is switched on."""
    model = plan.models.get(model_id)
    return model is None or model.is_enabled


def resolve_plan(
    conn: Conn,
    settings: Settings,
    cycle: Cycle,
    *,
    mode: Mode = Mode.AS_OF,
    replay: Sequence[str] = (),
    known_at: datetime | None = None,
) -> ExecutionPlan:
    """The plan of a cycle.

    Args:
        mode: `as_of` takes the roles in force at the cycle, as known at `known_at` (the cycle itself when
            None); `as_run` the plan recorded when the cycle ran; `override` the champions of `as_of` with the
            versions named in `replay` (`model@version`) as replays.

    Raises:
        PlanError: no recorded plan, no version named, a version that is not registered or of another cycle.
    """
    if mode is not Mode.OVERRIDE and replay:
        raise PlanError(f"versions to replay are named, which needs mode {Mode.OVERRIDE.value!r}")
    if mode is Mode.AS_RUN:
        recorded = cycles.recorded_plan(conn, settings.schema, cycle.cycle_id, cycle.started_at, Mode.AS_OF)
        if recorded is None:
            raise PlanError(f"no plan was recorded for {cycle.cycle_id!r} at {cycle.started_at.isoformat()}")
        return _with_switches_of_today(conn, settings, cycle, ExecutionPlan.from_json(recorded.plan))
    known = None if known_at is None else require_utc("known_at", known_at)
    specs = registry.models_at(conn, settings.schema, cycle.cycle_id, cycle.started_at, known)
    if mode is Mode.OVERRIDE:
        specs = _with_replays(conn, settings, cycle, specs, replay)
    return build_plan(specs, strict=False)


def _with_switches_of_today(
    conn: Conn, settings: Settings, cycle: Cycle, plan: ExecutionPlan
) -> ExecutionPlan:
    """`is_enabled` is a switch of today: put today's value into a recorded plan."""
    today = {m.model_id: m for m in registry.models_at(conn, settings.schema, cycle.cycle_id, None)}
    models = {
        key: replace(m, is_enabled=today[key].is_enabled if key in today else m.is_enabled)
        for key, m in plan.models.items()
    }
    return replace(plan, models=models)


def _with_replays(
    conn: Conn, settings: Settings, cycle: Cycle, specs: Sequence[ModelSpec], replay: Sequence[str]
) -> list[ModelSpec]:
    if not replay:
        raise PlanError(f"mode {Mode.OVERRIDE.value!r} needs versions to replay, as 'model@version'")
    named_versions = registry.named_versions(conn, settings.schema, list(dict.fromkeys(replay)))
    held = {spec.model_id: spec for spec in specs}
    for model in registry.model_specs(conn, settings.schema):  # a model that had no role yet may be replayed
        if model.cycle_id == cycle.cycle_id:
            held.setdefault(model.model_id, model)
    wanted = {v.model_id for v in named_versions}
    if foreign := sorted(v.label for v in named_versions if v.model_id not in held):
        raise PlanError(f"not versions of cycle {cycle.cycle_id!r}: {', '.join(foreign)}")
    kept = {spec.model_id for spec in specs} | wanted
    return [
        replace(
            spec,
            versions=(
                *(v for v in spec.versions if v.role is Role.PRIMARY),
                *(v for v in named_versions if v.model_id == spec.model_id),
            ),
        )
        for spec in held.values()
        if spec.model_id in kept
    ]


def open_cycle(
    conn: Conn,
    settings: Settings,
    cycle_id: str,
    started_at: datetime,
    *,
    mode: Mode,
    replay: Sequence[str] = (),
    known_at: datetime | None = None,
    dag_run_id: str | None = None,
) -> OpenedCycle:
    """Make the cycle's table partitions, resolve its plan and record it.

    Raises:
        PlanError: no plan can be given (see `resolve_plan`), or the cycle lies in the registry's future.
        ExpiredPartition: retention has removed the cycle's month.
    """
    cycle = registry.cycle_spec(conn, settings.schema, cycle_id).at(started_at)
    ensure_cycle_months(conn, settings.schema, cycle.started_at)
    _wait_for(conn, settings, cycle)
    with registry.with_shared_lock(conn, settings.schema):  # no change between the answer and its record
        plan = resolve_plan(conn, settings, cycle, mode=mode, replay=replay, known_at=known_at)
        opened_at = cycles.record_plan(
            conn, settings.schema, cycle, mode, plan.to_json(), plan.digest, dag_run_id
        )
    log.info("plan %s of %s at %s: %s", plan.digest[:12], cycle_id, cycle.started_at.isoformat(), mode.value)
    for model_id, reason in plan.broken.items():
        log.error("model %s cannot run: %s", model_id, reason)
    return OpenedCycle(cycle=cycle, plan=plan, digest=plan.digest, opened_at=opened_at, mode=mode)


def _wait_for(conn: Conn, settings: Settings, cycle: Cycle) -> None:
    """Wait out a registry clock that is a little behind: a plan for its future could still change."""
    ahead_s = (cycle.started_at - registry.clock(conn, settings.schema)).total_seconds()
    if ahead_s > MAX_CLOCK_SKEW_S:
        raise PlanError(f"cycle {cycle.cycle_id!r} at {cycle.started_at.isoformat()} lies in the future")
    sleep(max(ahead_s, 0.0))


def planned(
    conn: Conn, settings: Settings, cycle_id: str, started_at: datetime, *, mode: Mode
) -> tuple[CycleSpec, OpenedCycle]:
    """The cycle with its recorded plan; without one (a hand-written Dag) the plan as of the cycle.

    Raises:
        PlanError: unknown cycle, or `override` without a recorded plan.
    """
    spec = registry.cycle_spec(conn, settings.schema, cycle_id)
    cycle = spec.at(started_at)
    recorded = cycles.recorded_plan(conn, settings.schema, cycle_id, cycle.started_at, mode)
    if recorded is None:
        ensure_cycle_months(conn, settings.schema, cycle.started_at)
        plan = resolve_plan(conn, settings, cycle, mode=mode)
        opened_at = registry.clock(conn, settings.schema)
    else:
        plan = _with_switches_of_today(conn, settings, cycle, ExecutionPlan.from_json(recorded.plan))
        opened_at = recorded.opened_at
    return spec, OpenedCycle(cycle=cycle, plan=plan, digest=plan.digest, opened_at=opened_at, mode=mode)


def run_one(
    conn: Conn,
    reader_conn: Conn,
    settings: Settings,
    cycle_id: str | None,
    started_at: datetime,
    *,
    model_id: str,
    version: str | None,
    mode: Mode,
) -> RunReport:
    """Run one version for one cycle and store what came of it.

    Args:
        cycle_id: the model's own cycle when None.
        version: the champion of the cycle when None.

    Raises:
        PlanError: the plan has no such version.
        RegistrationError: the model's registration is broken; the message is the reason.
    """
    cycle_id = cycle_id or registry.cycle_of(conn, settings.schema, model_id)
    spec, opened = planned(conn, settings, cycle_id, started_at, mode=mode)
    cycle, plan = opened.cycle, opened.plan
    if model_id in plan.broken:
        raise RegistrationError(f"model {model_id!r} cannot run: {plan.broken[model_id]}")
    step = _step(plan, cycle, model_id, version)
    return run_step(conn, reader_conn, settings, spec, opened, step)


def run_step(
    conn: Conn,
    reader_conn: Conn,
    settings: Settings,
    spec: CycleSpec,
    opened: OpenedCycle,
    step: VersionSpec,
) -> RunReport:
    """Run one step of a plan if the champions that it needs have a result; else note that it was skipped."""
    cycle, plan = opened.cycle, opened.plan
    known = manifests(conn, settings.schema, cycle.cycle_id, cycle.started_at)
    if reason := _missing(plan, step, known):
        note_missing(conn, settings.schema, cycle, step, Outcome.SKIPPED, reason)
        return not_run(step, Outcome.SKIPPED, reason)
    return _run(conn, reader_conn, settings, spec, opened, step)


def _step(plan: ExecutionPlan, cycle: Cycle, model_id: str, version: str | None) -> VersionSpec:
    primary = plan.primaries.get(model_id)
    shadows = plan.shadows.get(model_id, ())
    found = primary if version is None else next((v for v in shadows if v.version == version), None)
    if found is None and primary is not None and primary.version == version:
        found = primary
    if found is None:
        wanted = f"version {version!r} in a role" if version else "a champion"
        when = f"{cycle.cycle_id!r} at {cycle.started_at.isoformat()}"
        raise PlanError(f"the plan of {when} has no model {model_id!r} with {wanted}")
    return found


def _missing(plan: ExecutionPlan, step: VersionSpec, known: Manifests) -> str | None:
    """Why the step cannot run: a champion that it needs has no result in this cycle."""
    if not is_enabled(plan, step.model_id):
        return f"model {step.model_id!r} is switched off"
    needs = list(plan.upstreams(step.model_id))
    if step.role is not Role.PRIMARY and not step.is_replay:
        needs.insert(0, step.model_id)
    for model_id in needs:
        champion = plan.primaries.get(model_id)
        manifest = known.get((champion.version_id, False)) if champion else None
        if manifest is None or manifest.outcome is not Outcome.SUCCEEDED:
            state = manifest.outcome.value.lower() if manifest else "not run" if champion else "not appointed"
            return f"the champion of {model_id!r} has no result in this cycle: {state}"
    return None


def _run(
    conn: Conn,
    reader_conn: Conn,
    settings: Settings,
    spec: CycleSpec,
    opened: OpenedCycle,
    step: VersionSpec,
) -> RunReport:
    cycle, plan = opened.cycle, opened.plan
    model = plan.models[step.model_id]
    database = reader(reader_conn, settings, opened)
    store = PostgresStore(conn, reader_conn, settings.schema, code_version=__version__)
    job = Job(
        model=model,
        version=step,
        cycle=cycle,
        instantiate=Registry(plan.models.values(), allowed_prefixes=settings.allowed_prefixes).instantiate,
        inputs=lambda: read_inputs(database, spec),
        upstreams={u: plan.primaries[u] for u in plan.upstreams(step.model_id)},
    )
    return run_job(job, store, database)


def reader(conn: Conn, settings: Settings, opened: OpenedCycle) -> Reader:
    """Read-only access to the registry's database for the versions of one cycle.

    Queries have `:window_start`, `:window_end`, `:cycle_started_at` and `:opened_at`; an input query that
    leaves out what arrived after `:opened_at` shows all versions the same rows.
    """
    if settings.statement_timeout_s is not None:
        limit = {"limit_ms": str(max(1, round(settings.statement_timeout_s * 1000)))}
        conn.execute(load_queries("session", settings.schema)["limit_statements"], limit)
    window = opened.cycle.window
    params = {
        "window_start": window.start,
        "window_end": window.end,
        "cycle_started_at": opened.cycle.started_at,
        "opened_at": opened.opened_at,
    }
    return Reader(conn, settings.schema, params)


def read_inputs(database: Reader, spec: CycleSpec) -> Inputs:
    """The rows of the cycle's input query, with their digest and newest time; none without a query.

    Raises:
        TerminalModelError: the query was refused, or its time column holds no times.
        RegistryUnavailable: the database did not answer.
    """
    return with_facts(database.query(spec.input_query), spec.time_key) if spec.input_query else Inputs()


def run_inline(
    conn: Conn,
    reader_conn: Conn,
    settings: Settings,
    cycle_id: str,
    started_at: datetime,
    *,
    mode: Mode,
    concurrent_shadows: bool = False,
) -> CycleReport:
    """Run the whole plan of a cycle in this process, through two connections.

    Raises:
        PlanError: unknown cycle, or `override` without a recorded plan.
        TerminalModelError, RegistryUnavailable: the input query failed.
    """
    spec, opened = planned(conn, settings, cycle_id, started_at, mode=mode)
    cycle, plan = opened.cycle, opened.plan
    if mode is Mode.OVERRIDE:  # replays read stored champions, which do not run again
        reports = tuple(run_step(conn, reader_conn, settings, spec, opened, step) for step in opened.steps)
        return CycleReport(reports=reports, summary=summarize(plan, reports))
    database = reader(reader_conn, settings, opened)
    return DAGExecutor(
        plan,
        instantiate=Registry(plan.models.values(), allowed_prefixes=settings.allowed_prefixes).instantiate,
        store=PostgresStore(conn, reader_conn, settings.schema, code_version=__version__),
        inputs=read_inputs(database, spec),
        database=database,
        concurrent_shadows=concurrent_shadows,
    ).run(cycle)


def summary_json(summary: CycleSummary) -> dict[str, Any]:  # Any: a JSON object
    """The summary as it is stored."""
    return {
        "executed": summary.executed,
        "failed": summary.failed,
        "skipped_missing_deps": summary.skipped_missing_deps,
        "shadow_ran": summary.shadow_ran,
        "shadow_failed": summary.shadow_failed,
        "without_primary": list(summary.without_primary),
    }


def close_cycle(
    conn: Conn,
    settings: Settings,
    cycle_id: str,
    started_at: datetime,
    *,
    mode: Mode,
    task_states: Mapping[str, str],
) -> CycleSummary:
    """Count how the cycle ended, note versions that left no manifest, and record the summary.

    Args:
        task_states: final state by task id (see `naming`), as Airflow knows it. A task that failed counts
            as failed even where an earlier result stays in force. A broken model counts among `failed`.

    Raises:
        PlanError: the cycle was never opened in this mode.
    """
    cycle = registry.cycle_spec(conn, settings.schema, cycle_id).at(started_at)
    recorded = cycles.recorded_plan(conn, settings.schema, cycle_id, cycle.started_at, mode)
    if recorded is None:
        raise PlanError(f"cycle {cycle_id!r} at {cycle.started_at.isoformat()} was not opened")
    plan = _with_switches_of_today(conn, settings, cycle, ExecutionPlan.from_json(recorded.plan))
    known = manifests(conn, settings.schema, cycle_id, cycle.started_at)
    collective_failed = "failed" in (task_states.get(OTHER), task_states.get(INLINE))
    ended = []
    for step in steps_of(plan, mode):
        manifest, state = known.get((step.version_id, step.is_replay)), task_states.get(task_id(step))
        if manifest is None and state in (None, "skipped") and collective_failed:
            state = "failed"
        outcome = _outcome(manifest, state)
        if manifest is None:
            reason = f"the task ended as {state!r} without a result" if state else "no task ran it"
            note_missing(conn, settings.schema, cycle, step, outcome, reason)
        ended.append(RunReport(version=step, outcome=outcome, started_at=recorded.opened_at))
    summary = summarize(plan, ended)
    if mode is Mode.OVERRIDE:  # champions did not run: what is broken among them did not fail here
        summary = replace(summary, failed=0)
    cycles.record_summary(conn, settings.schema, cycle, mode, summary_json(summary))
    return summary


def _outcome(manifest: Manifest | None, state: str | None) -> Outcome:
    if state == "failed":
        return Outcome.FAILED
    if manifest is None or state == "upstream_failed":
        return Outcome.SKIPPED
    return manifest.outcome


def legacy_call(conn: Conn, settings: Settings, cycle_id: str, started_at: datetime) -> Callable[[], object]:
    """The cycle's legacy entry point (`module:function`, an allowed module), bound to the `Cycle`.

    Raises:
        PlanError: the cycle has none.
        EntryPointError: it is not allowed or cannot be imported.
    """
    spec = registry.cycle_spec(conn, settings.schema, cycle_id)
    if not spec.legacy_entrypoint:
        raise PlanError(f"cycle {cycle_id!r} has no legacy entry point")
    return partial(load_function(spec.legacy_entrypoint, settings.allowed_prefixes), spec.at(started_at))


def load_function(entrypoint: str, allowed_prefixes: tuple[str, ...]) -> Callable[[Cycle], object]:
    """Import `module:function` from an allowed module; EntryPointError says what is wrong."""
    module, _, name = entrypoint.partition(":")
    if not name or not is_under(module, allowed_prefixes):
        raise EntryPointError(entrypoint, "is not 'module:function' in an allowed module")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise EntryPointError(entrypoint, f"cannot be imported: {error}") from error
    if not callable(found):
        raise EntryPointError(entrypoint, "is not callable")
    function: Callable[[Cycle], object] = found
    return function
