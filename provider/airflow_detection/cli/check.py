"""`airflow detection check`: everything that keeps a cycle from running, told before it runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ActionCommand

from airflow_detection.cli.command import Arguments, command, connected, fail, say, warn
from airflow_detection.domain.text import visible
from airflow_detection.errors import DetectionError, RegistrationError

if TYPE_CHECKING:
    from sqlalchemy import Select

    from airflow_detection.domain.settings import Settings
    from airflow_detection.domain.specs import CycleSpec, ModelSpec
    from airflow_detection.engine.model import BaseDetectionModel
    from airflow_detection.registration.entries import ModelEntry, Registration
    from airflow_detection.store.database import Database
    from airflow_detection.store.registry import RegisteredVersion


@command
def check(args: Arguments) -> None:
    """Look at connection, migrations, cycles, entry points, artefacts and plans; tell every problem.

    What is in force is judged; what is not, or can be meant so, is a warning.
    """
    del args
    with connected() as (db, settings):
        problems = list(_problems(db, settings))
        for warning in (*_reader_warnings(db, settings), *_warnings(db, settings)):
            warn(f"warning: {visible(warning)}")
        for note in _notes(db):
            say(f"note: {note}")
    if problems:
        fail("\n".join(map(visible, problems)))
    say("all is well: connection, migrations, schedules, input queries, entry points, artefacts, plans")


def registration_warnings(
    db: Database, settings: Settings, registration: Registration, source: str | None = None
) -> Iterator[str]:
    """Describe what would keep the cycles and models of a file from running, stored or not.

    Args:
        source: the file; its name and the line of the entry stand before each.
    """
    from airflow_detection.cycle.input_query import query_problems

    def placed(line: int, reasons: Iterable[str]) -> Iterator[str]:
        yield from (f"{source}:{line}: {reason}" if source else reason for reason in reasons)

    try:
        with _reading(db, settings) as reading:
            for cycle in registration.cycles:
                problems = query_problems(reading, cycle.spec)
                yield from placed(cycle.line, (f"cycle {cycle.spec.cycle_id}: {p}" for p in problems))
    except _NotReadable as error:
        yield str(error)
    for cycle in registration.cycles:
        yield from placed(cycle.line, _deadline_problems(cycle.spec, settings))
    for model in registration.models:
        for line, place, entrypoint in _named_classes(model):
            problems = _class_problems(place, entrypoint, model.spec.depends_on, settings)
            yield from placed(line, problems)


def shard_refusals(registration: Registration, settings: Settings, source: str) -> Iterator[str]:
    """Describe which classes of a file are to run in shards and do not declare that they can.

    Args:
        source: the file; its name and the line of the entry stand before each.
    """
    for model in registration.models:
        for line, place, entrypoint in _named_classes(model) if model.spec.shards > 1 else ():
            if not isinstance(loaded := _loaded(place, entrypoint, settings), str):
                yield from (f"{source}:{line}: {r}" for r in _shard_problems(place, loaded, model.spec))


def _named_classes(model: ModelEntry) -> list[tuple[int, str, str]]:
    """Return the line, the place and the entry point of a model, and of its versions that have their own."""
    label = model.spec.model_id
    own = [(v.line, f"version {label}@{v.version}", v.entrypoint) for v in model.versions if v.entrypoint]
    return [(model.line, f"model {label}", model.spec.entrypoint), *own]


def _problems(db: Database, settings: Settings) -> Iterator[str]:
    from airflow_detection.store import migrations, registry

    try:
        migrations.check(db)
        cycles = registry.cycle_ids(db)
    except DetectionError as error:
        yield str(error)
        return
    try:
        with _reading(db, settings) as reading:
            for cycle_id in cycles:
                yield from _cycle_problems(db, settings, cycle_id, reading)
    except _NotReadable as error:
        yield str(error)
    yield from _policy_problems(db)
    try:
        yield from _model_problems(db, settings)
    except RegistrationError as error:
        yield str(error)


def _policy_problems(db: Database) -> Iterator[str]:
    """Name the policies of table partitions that upkeep cannot follow."""
    from datetime import UTC, datetime

    from airflow_detection.operators.context import _storage_path
    from airflow_detection.store.partitions.catalog import read_table
    from airflow_detection.store.partitions.parquet import require_pyarrow
    from airflow_detection.store.partitions.plan import policies

    for policy in policies(db, datetime.now(UTC)):
        place = f"policy of table partitions of {policy.table_name}"
        try:
            read_table(db, policy.table_name)
            if policy.retention_export is not None:
                require_pyarrow()
        except DetectionError as error:
            yield f"{place}: {error}"
        if policy.retention_export is not None:
            try:
                _storage_path(policy.retention_export)
            except Exception as error:  # of client libraries
                reason = str(error) or type(error).__name__
                yield f"{place}: retention_export {policy.retention_export!r}: {reason}"


class _NotReadable(DetectionError):
    """The connection that models read through cannot be used."""


@contextmanager
def _reading(db: Database, settings: Settings) -> Iterator[Database]:
    """The database as models read it: through their connection, and as their role."""
    from airflow_detection.hooks.detection import DetectionHook
    from airflow_detection.store.database import Database
    from airflow_detection.store.session import limit_session

    if settings.reader_conn_id is None and settings.reader_role is None:
        yield db
        return
    with ExitStack() as stack:
        try:
            hook = DetectionHook(settings.reader_conn_id or settings.conn_id, schema=settings.schema)
            reading = Database(stack.enter_context(hook.connect(read_only=True)), settings.schema)
            limit_session(reading, role=settings.reader_role)
        except DetectionError as error:
            raise _NotReadable(f"the connection that models read through: {error}") from error
        yield reading


def _cycle_problems(db: Database, settings: Settings, cycle_id: str, reading: Database) -> Iterator[str]:
    from airflow_detection.cycle.input_query import query_problems
    from airflow_detection.domain.cron import cron_problem
    from airflow_detection.engine import flags
    from airflow_detection.engine.plan import build_plan
    from airflow_detection.operators.cycle import no_path_reason
    from airflow_detection.store import registry

    try:
        spec = registry.cycle_spec(db, cycle_id)
        execution_plan = build_plan(registry.models_at(db, cycle_id, None), strict=False)
    except DetectionError as error:
        yield f"cycle {cycle_id}: {error}"
        return
    if reason := cron_problem(spec.schedule):
        yield f"cycle {cycle_id}: {reason}"
    for model_id, reason in sorted(execution_plan.broken.items()):
        yield f"cycle {cycle_id}: model {model_id}: {reason}"
    if not spec.is_enabled:
        return
    for reason in query_problems(reading, spec):
        yield f"cycle {cycle_id}: {reason}"
    yield from _deadline_problems(spec, settings)
    if not flags.use_model_registry() and not spec.legacy_entrypoint:
        yield no_path_reason(cycle_id)


def _deadline_problems(spec: CycleSpec, settings: Settings) -> Iterator[str]:
    from airflow_detection.dags.deadline import deadline_problem

    if spec.deadline and (reason := deadline_problem(spec, settings.allowed_prefixes)):
        yield f"cycle {spec.cycle_id}: deadline.callback: {reason}"


def _model_problems(db: Database, settings: Settings) -> Iterator[str]:
    from airflow_detection.evidence.policy import policy_problems
    from airflow_detection.registration.task_options import default_arg_problems, option_problems

    models, versions = _current(db)
    cycles = list(_readable_cycles(db))
    for cycle in cycles:
        for key, reason in default_arg_problems(cycle.default_args):
            yield f"cycle {cycle.cycle_id}: default_args.{key}: {reason}"
    for spec in models:
        for key, reason in option_problems(spec.task_options):
            yield f"model {spec.model_id}: task_options.{key}: {reason}"
        for key, reason in policy_problems(spec.promotion):
            yield f"model {spec.model_id}: promotion.{key}: {reason}"
    in_force, _ = _entrypoints(models, versions)
    yield from _import_problems(in_force, settings)
    of_models = {spec.model_id: spec for spec in models}
    for place, entrypoint in sorted(in_force):
        spec = of_models[_model_of(place)]
        if spec.shards > 1 and not isinstance(loaded := _loaded(place, entrypoint, settings), str):
            yield from _shard_problems(place, loaded, spec)
    yield from _artifact_problems(versions, settings)
    yield from _pool_problems(
        {
            **{f"cycle {c.cycle_id}: default_args": c.default_args.get("pool") for c in cycles},
            **{place: own.get("pool") for place, own in _task_options(models)},
        }
    )


def _current(db: Database) -> tuple[list[ModelSpec], list[RegisteredVersion]]:
    """Return the models and versions that are not retired: their roles have not been ended."""
    from airflow_detection.store import registry

    retired = registry.retired_versions(db)
    versions = registry.versions(db)
    current = [version for version in versions if version.version_id not in retired]
    gone = {v.model_id for v in versions} - {v.model_id for v in current}
    return [spec for spec in registry.model_specs(db) if spec.model_id not in gone], current


def _entrypoints(
    models: Iterable[ModelSpec], versions: Iterable[RegisteredVersion]
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Return places and entry points: those of versions that hold a role, and those of the others."""
    of_models = {spec.model_id: spec.entrypoint for spec in models}
    in_force: set[tuple[str, str]] = set()
    others: set[tuple[str, str]] = {(f"model {name}", entrypoint) for name, entrypoint in of_models.items()}
    for version in versions:
        own = (f"version {version.label}", version.entrypoint) if version.entrypoint else None
        place = own or (f"model {version.model_id}", of_models[version.model_id])
        (others if version.role is None else in_force).add(place)
    return in_force, others - in_force


def _model_of(place: str) -> str:
    return place.partition(" ")[2].partition("@")[0]


def _import_problems(places: Iterable[tuple[str, str]], settings: Settings) -> Iterator[str]:
    for place, entrypoint in sorted(places):
        if isinstance(loaded := _loaded(place, entrypoint, settings), str):
            yield loaded


def _class_problems(
    place: str, entrypoint: str, depends_on: Collection[str], settings: Settings
) -> Iterator[str]:
    """Describe why a class cannot be used, or would fail."""
    loaded = _loaded(place, entrypoint, settings)
    yield from [loaded] if isinstance(loaded, str) else _upstream_problems(place, loaded, depends_on)


def _shard_problems(place: str, loaded: type[BaseDetectionModel], spec: ModelSpec) -> Iterator[str]:
    """Describe why the versions of a model cannot run in shards, where they are to."""
    from airflow_detection.engine.job import shards_problem

    if spec.shards > 1 and (reason := shards_problem(loaded)):
        yield f"{place}: task_options.shards is {spec.shards}: {reason}, or shards 1"


def _upstream_problems(
    place: str, loaded: type[BaseDetectionModel], depends_on: Collection[str]
) -> Iterator[str]:
    """Name the models that a class reads and does not depend on: it would fail."""
    from airflow_detection.engine.entrypoints import shared_without_dependency

    for model_id in shared_without_dependency(loaded, depends_on):
        name = loaded.__qualname__
        yield f"{place}: {name} reads ctx.shared[{model_id!r}], which depends_on of the model does not have"


def _loaded(place: str, entrypoint: str, settings: Settings) -> type[BaseDetectionModel] | str:
    """Return the class of an entry point, or why there is none."""
    from airflow_detection.engine.entrypoints import load_class

    try:
        return load_class(entrypoint, settings.allowed_prefixes)
    except DetectionError as error:
        return f"{place}: {error}"
    except Exception as error:
        return f"{place}: entry point {entrypoint!r} cannot be imported: {type(error).__name__}: {error}"


def _artifact_problems(versions: Iterable[RegisteredVersion], settings: Settings) -> Iterator[str]:
    """Fetch the artefacts of versions that hold a role into this machine's cache; name those that fail."""
    from airflow_detection.cycle.versions import artifact_cache
    from airflow_detection.operators.context import open_artifact

    with artifact_cache(settings, open_artifact) as artifacts:
        for version in versions:
            if version.role is not None and version.artifact is not None:
                try:
                    artifacts.path(version.artifact)
                except DetectionError as error:
                    yield f"version {version.label}: {error}"


def _pool_problems(named: Mapping[str, str | None]) -> Iterator[str]:
    """Name the pools, by where they are named, that Airflow does not have: such a task is never queued."""
    if not any(named.values()):
        return
    from airflow.models.pool import Pool
    from sqlalchemy import select

    known = {pool for (pool,) in _metadata(select(Pool.pool))}
    for place, pool in sorted(named.items()):
        if pool is not None and known and pool not in known:
            yield (
                f"{place}.pool: there is no pool {pool!r}, its tasks would never run:"
                f" airflow pools set {pool} SLOTS DESCRIPTION"
            )


def _task_options(models: Iterable[ModelSpec]) -> Iterator[tuple[str, Mapping[str, Any]]]:  # Any: JSON
    """Iterate over the options of models, and those of their roles, each behind its place."""
    for model in models:
        place = f"model {model.model_id}: task_options"
        yield place, model.task_options
        for role, own in sorted(dict(model.task_options.get("roles") or {}).items()):
            yield f"{place}.roles.{role}", own


def _pod_warnings(models: Iterable[ModelSpec]) -> Iterator[str]:
    """Name what `KubernetesExecutor` would not find if it ran on this machine."""
    from airflow_detection.dags.pods import has_client

    for place, options in _task_options(models):
        template = options.get("pod_template_file")
        if template is not None and not Path(template).is_file():
            yield (
                f"{place}.pod_template_file: {template} is no file on this machine: KubernetesExecutor would"
                " start pods without a template, if the scheduler runs here"
            )
        if options.get("resources") and not has_client():
            yield (
                f"{place}.resources: left out of Dags that are parsed on this machine, which has no"
                " apache-airflow-providers-cncf-kubernetes"
            )


def _metadata(statement: Select[*tuple[Any, ...]]) -> list[Any]:  # Any: rows of Airflow's tables
    """Return rows of Airflow's metadata database; none where it does not answer or is not migrated."""
    from airflow.utils.session import create_session
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with create_session() as session:
            return list(session.execute(statement))
    except SQLAlchemyError:
        return []


def _warnings(db: Database, settings: Settings) -> Iterator[str]:
    """Describe what does not run, and may be meant so."""
    from airflow_detection.domain.specs import Role
    from airflow_detection.store import registry

    try:
        models, versions = _current(db)
        is_empty = not registry.model_specs(db)
    except DetectionError:
        return  # a problem, told as such
    if is_empty:
        yield "nothing is registered: airflow detection apply FILE"
    with_role = {version.model_id for version in versions if version.role is not None}
    champions = {version.model_id for version in versions if version.role is Role.PRIMARY}
    for spec in models:
        if spec.model_id not in with_role:
            yield f"model {spec.model_id}: no version of it holds a role: it does not run"
        elif spec.model_id not in champions:
            yield f"model {spec.model_id}: no version of it is PRIMARY: the others do not run without one"
    yield from _pod_warnings(models)
    in_force, others = _entrypoints(models, versions)
    yield from (f"not in force: {reason}" for reason in _import_problems(others, settings))
    upstreams = {spec.model_id: spec.depends_on for spec in models}
    for place, entrypoint in sorted(in_force):
        if not isinstance(loaded := _loaded(place, entrypoint, settings), str):
            yield from _upstream_problems(place, loaded, upstreams[_model_of(place)])
    cycles = list(_readable_cycles(db))
    yield from _paused_dags(cycles)
    yield from _empty_runs(cycles)


def _notes(db: Database) -> Iterator[str]:
    """Describe what only the models themselves can tell to be right."""
    from airflow_detection.cycle.input_query import keys_of_outputs

    with suppress(DetectionError):
        models, _ = _current(db)
        for cycle in _readable_cycles(db):
            for key, model_ids in keys_of_outputs(db, cycle, models).items():
                yield (
                    f"cycle {cycle.cycle_id}: entity_key {key!r} is no column of input_query, so that each"
                    f" output must have it: {', '.join(model_ids)}"
                )


def _readable_cycles(db: Database) -> Iterator[CycleSpec]:
    from airflow_detection.store import registry

    for cycle_id in registry.cycle_ids(db):
        with suppress(DetectionError):  # a problem, told as such
            yield registry.cycle_spec(db, cycle_id)


def _paused_dags(cycles: Iterable[CycleSpec]) -> Iterator[str]:
    from airflow.models.dag import DagModel
    from sqlalchemy import select

    from airflow_detection.domain.names import dag_ids

    cycles = list(cycles)
    names = dag_ids(cycle.cycle_id for cycle in cycles)
    dags = [names[cycle.cycle_id] for cycle in cycles if cycle.is_enabled]
    statement = select(DagModel.dag_id, DagModel.is_paused).where(DagModel.dag_id.in_(dags))
    paused: dict[str, bool] = dict(_metadata(statement))
    for dag_id in dags:
        if dag_id not in paused:
            yield f"Airflow has no Dag {dag_id} yet: is there a Dag file that calls cycle_dags()?"
        elif paused[dag_id]:
            yield f"Dag {dag_id} is paused: airflow dags unpause {dag_id}"


def _empty_runs(cycles: Iterable[CycleSpec]) -> Iterator[str]:
    """Name the manual runs that Airflow gave no task: it calls them a success."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import exists, select

    from airflow_detection.domain.names import dag_ids

    cycles = list(cycles)
    names = dag_ids(cycle.cycle_id for cycle in cycles)
    starts = {names[cycle.cycle_id]: cycle.start_date for cycle in cycles}
    has_tasks = exists().where(TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id)
    statement = (
        select(DagRun.dag_id, DagRun.run_id, DagRun.logical_date)
        .where(DagRun.dag_id.in_(starts), DagRun.run_type == "manual", DagRun.state == "success", ~has_tasks)
        .order_by(DagRun.dag_id, DagRun.run_id)
    )
    for dag_id, run_id, at in _metadata(statement):
        if at is not None and at < starts[dag_id]:
            yield (
                f"run {run_id} of Dag {dag_id} is a success in which nothing ran: it is for {at.isoformat()},"
                f" before start_date {starts[dag_id].isoformat()}, where Airflow gives a manual run no task;"
                " backfill that cycle instead"
            )


def _reader_warnings(db: Database, settings: Settings) -> Iterator[str]:
    """Describe what the login that models read as may do beyond reading."""
    from airflow_detection.hooks.detection import DetectionHook
    from airflow_detection.store.database import Database
    from airflow_detection.store.grants import rights_beyond_reading

    advice = "airflow detection grants --reader LOGIN makes a login for [detection] reader_conn_id"
    try:
        if settings.reader_conn_id is None:
            rights = list(rights_beyond_reading(db))
        else:
            with DetectionHook(settings.reader_conn_id, schema=settings.schema).connect() as conn:
                rights = list(rights_beyond_reading(Database(conn, settings.schema)))
    except DetectionError:
        return  # a problem, told as such
    yield from (f"{right}; {advice}" for right in rights)


def commands() -> list[ActionCommand]:
    """Return these commands."""
    return [ActionCommand("check", "Look for everything that is wrong", check, ())]
