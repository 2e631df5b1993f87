"""What happens in a cycle once it is open: its versions run, and it closes. Knows no Airflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from airflow_detection import __version__
from airflow_detection.cycle.planning import (
    OpenedCycle,
    is_enabled,
    planned,
)
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Cycle, CycleSpec, Mode, ModelSpec, Outcome, Role, VersionSpec
from airflow_detection.engine.entrypoints import Registry
from airflow_detection.engine.job import Job, not_run, run_job
from airflow_detection.engine.plan import ExecutionPlan
from airflow_detection.engine.run_log import Telling
from airflow_detection.errors import PlanError, RegistrationError
from airflow_detection.store import registry
from airflow_detection.store.connection import Connection, LazyConnection
from airflow_detection.store.database import Database
from airflow_detection.store.input_facts import with_facts
from airflow_detection.store.manifests import Manifest, manifests, note_missing
from airflow_detection.store.outputs import PostgresStore
from airflow_detection.store.pushdown import SelectLimits
from airflow_detection.store.reader import Reader
from airflow_detection.store.session import limit_session

Manifests = Mapping[tuple[int, bool], Manifest]


def run_one(
    conn: Connection,
    reader_conn: Connection | Callable[[], Connection],
    settings: Settings,
    cycle_id: str | None,
    started_at: datetime,
    *,
    model_id: str,
    version: str | None,
    mode: Mode,
    telling: Telling | None = None,
) -> RunReport:
    """Run one version for one cycle and store what came of it.

    Args:
        cycle_id: the model's own cycle when None.
        version: the champion of the cycle when None.
        reader_conn: for what the model reads; or what opens it, called when it first reads.
        telling: makes another logging system's lines carry the facts of the run.

    Raises:
        PlanError: the plan has no such version.
        RegistrationError: the model's registration is broken; the message is the reason.
    """
    spec, opened, step = chosen(
        conn, settings, cycle_id, started_at, model_id=model_id, version=version, mode=mode
    )
    return run_step(conn, reader_conn, settings, spec, opened, step, telling)


def chosen(
    conn: Connection,
    settings: Settings,
    cycle_id: str | None,
    started_at: datetime,
    *,
    model_id: str,
    version: str | None,
    mode: Mode,
) -> tuple[CycleSpec, OpenedCycle, VersionSpec]:
    """The version that `run_one` runs, in its cycle; see there for the arguments and what is raised."""
    cycle_id = cycle_id or registry.cycle_of(Database(conn, settings.schema), model_id)
    spec, opened = planned(conn, settings, cycle_id, started_at, mode=mode)
    cycle, plan = opened.cycle, opened.plan
    if model_id in plan.broken:
        raise RegistrationError(f"model {model_id!r} cannot run: {plan.broken[model_id]}")
    return spec, opened, _step(plan, cycle, model_id, version)


def run_step(
    conn: Connection,
    reader_conn: Connection | Callable[[], Connection],
    settings: Settings,
    spec: CycleSpec,
    opened: OpenedCycle,
    step: VersionSpec,
    telling: Telling | None = None,
) -> RunReport:
    """Run one step of a plan if the champions that it needs have a result; else note that it was skipped."""
    if (skipped := skipped_step(conn, settings, opened, step)) is not None:
        return skipped
    execution_s = positive_option(opened.plan.models[step.model_id], "execution_timeout")
    limits = [s for s in (execution_s, settings.statement_timeout_s) if s is not None]
    timeout_s = min(limits, default=None)

    def reading() -> Connection:
        held = reader_conn() if callable(reader_conn) else reader_conn
        limit_session(Database(held, settings.schema), timeout_s=timeout_s, role=settings.reader_role)
        return held

    lazy = LazyConnection(reading).as_connection
    database = reader(lazy, settings, opened)
    store = PostgresStore(
        conn,
        lazy,
        settings.schema,
        code_version=__version__,
        select_limits=SelectLimits(timeout_s=timeout_s, role=settings.reader_role),
    )
    job = job_of(settings, opened, step, lambda: read_inputs(database, spec))
    return run_job(job, store, database, telling)


def skipped_step(
    conn: Connection, settings: Settings, opened: OpenedCycle, step: VersionSpec
) -> RunReport | None:
    """Note a step that cannot run, with the reason; None if it can."""
    cycle = opened.cycle
    known = manifests(Database(conn, settings.schema), cycle.cycle_id, cycle.started_at)
    if (reason := _missing(opened.plan, step, known)) is None:
        return None
    note_missing(Database(conn, settings.schema), cycle, step, Outcome.SKIPPED, reason)
    return not_run(step, Outcome.SKIPPED, reason)


def job_of(settings: Settings, opened: OpenedCycle, step: VersionSpec, inputs: Callable[[], Inputs]) -> Job:
    """One step of a plan, ready to run."""
    plan = opened.plan
    return Job(
        model=plan.models[step.model_id],
        version=step,
        cycle=opened.cycle,
        instantiate=Registry(plan.models.values(), allowed_prefixes=settings.allowed_prefixes).instantiate,
        inputs=inputs,
        upstreams={u: plan.primaries[u] for u in plan.upstreams(step.model_id)},
    )


def positive_option(model: ModelSpec, name: str) -> float | None:
    """A number above zero among a model's task options; None where there is none."""
    value = model.task_options.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
        return None
    return float(value)


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


def reader(conn: Connection, settings: Settings, opened: OpenedCycle) -> Reader:
    """Read-only access to the registry's database for the versions of one cycle.

    Queries have `:window_start`, `:window_end`, `:cycle_started_at` and `:opened_at`; an input query that
    leaves out what arrived after `:opened_at` shows all versions the same rows.
    """
    window = opened.cycle.window
    params = {
        "window_start": window.start,
        "window_end": window.end,
        "cycle_started_at": opened.cycle.started_at,
        "opened_at": opened.opened_at,
    }
    return Reader(Database(conn, settings.schema), params)


def read_inputs(database: Reader, spec: CycleSpec) -> Inputs:
    """The rows of the cycle's input query, with their digest and newest time; none without a query.

    Raises:
        TerminalModelError: the query was refused, or its time column holds no times.
        RegistryUnavailable: the database did not answer.
    """
    return with_facts(database.query(spec.input_query), spec.time_key) if spec.input_query else Inputs()
