"""One Airflow Dag for each registered cycle; cheap to import: a driver is loaded to ask the registry alone.

The registry is asked at most every `[detection] plan_ttl` seconds; in between, and while it does not answer,
the Dags come from the last known good plan in `[detection] state_dir`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable, Param, get_parsing_context

from airflow_detection import plan_file
from airflow_detection.domain import Execution, Mode, ModelSpec, VersionSpec
from airflow_detection.engine.plan import ExecutionPlan, build_plan
from airflow_detection.errors import ConfigurationError, RegistryUnavailable
from airflow_detection.naming import CLOSE, INLINE, LEGACY, OPEN, OTHER, RESERVED, dag_id_of, task_id_of
from airflow_detection.operators.cycle import (
    CloseCycleOperator,
    InlineCycleOperator,
    LegacyPathOperator,
    OpenCycleOperator,
    OtherVersionsOperator,
    RefusedOperator,
)
from airflow_detection.operators.model import DetectionModelOperator
from airflow_detection.plan_file import KnownCycle, KnownRegistry

if TYPE_CHECKING:
    from airflow_detection.config import Settings

log = logging.getLogger(__name__)
CONNECT_TIMEOUT_S = 3
RETRIES, RETRY_DELAY = 2, timedelta(seconds=30)
PRIMARY_PRIORITY, SHADOW_PRIORITY, FRAME_PRIORITY = 10, 1, 20
LIBPQ_EXTRAS = (
    *("application_name", "host", "options", "passfile", "sslcert", "sslkey", "sslmode", "sslpassword"),
    *("sslrootcert", "target_session_attrs", "channel_binding", "gssencmode"),
)
AS_OF_RULE = """\
Each run resolves its plan **as of its logical date**: the roles in force then, as they were known then.
Whatever is promoted later changes no past cycle. `as_run` repeats the plan that was recorded; `override` runs
the versions named in `replay` as a comparison, and overwrites nothing that was live. The graph shows today's
roles; a version of a past plan without a task here runs in `other_versions`."""


def cycle_dags(detection_conn_id: str | None = None, settings: Settings | None = None) -> dict[str, DAG]:
    """The Dag of each registered cycle, by Dag id, in order of cycle id.

    Where Airflow runs one task, only that task's Dag is made.

    Raises:
        RegistryUnavailable: the registry does not answer and there is no last known good plan.
    """
    if settings is None:
        from airflow_detection import config

        settings = config.settings()
    conn_id, context = detection_conn_id or settings.conn_id, get_parsing_context()
    known = known_registry(conn_id, settings, dag_id=context.dag_id, task_id=context.task_id)
    cycles = sorted(known.cycles, key=lambda c: c.spec.cycle_id)
    return {
        dag_id: build_dag(cycle, conn_id)
        for cycle in cycles
        if (dag_id := dag_id_of(cycle.spec.cycle_id)) == context.dag_id or context.dag_id is None
    }


def known_registry(
    conn_id: str, settings: Settings, *, dag_id: str | None = None, task_id: str | None = None
) -> KnownRegistry:
    """What the registry says, at most `plan_ttl` seconds old if it answers.

    A model's task is content with a plan of any age that has it: what it runs is resolved when it runs.
    """
    digest = hashlib.sha256(f"{conn_id}\0{settings.schema}".encode()).hexdigest()[:12]
    path = settings.state_dir / f"cycles-{digest}.json"
    held = plan_file.read(path)
    if held is not None and (held.age_s(time.time()) < settings.plan_ttl_s or _holds(held, dag_id, task_id)):
        return held
    try:
        fresh = read_registry(conn_id, settings)
    except Exception as error:  # whatever it is: the Dags must stand
        if held is None:
            raise RegistryUnavailable(f"no last known good plan, and the registry says: {error}") from error
        log.warning(
            "the registry does not answer, Dags stand on a plan %.0f s old: %s",
            held.age_s(time.time()),
            error,
        )
        return held
    plan_file.write(path, fresh)
    return fresh


def _holds(held: KnownRegistry, dag_id: str | None, task_id: str | None) -> bool:
    if dag_id is None or task_id is None or task_id in RESERVED:
        return False
    return any(
        task_id in task_ids(cycle.models).values()
        for cycle in held.cycles
        if dag_id_of(cycle.spec.cycle_id) == dag_id
    )


def read_registry(conn_id: str, settings: Settings) -> KnownRegistry:
    """Ask the registry's database, waiting 3 s at most for a connection."""
    from airflow.sdk import Connection

    from airflow_detection.store import registry
    from airflow_detection.store.connection import connect

    info = conninfo(Connection.get(conn_id))
    with connect(info, connect_timeout_s=CONNECT_TIMEOUT_S, statement_timeout_s=CONNECT_TIMEOUT_S) as conn:
        return KnownRegistry(
            read_at=time.time(),
            cycles=tuple(
                KnownCycle(
                    spec=spec, models=tuple(registry.models_at(conn, settings.schema, spec.cycle_id, None))
                )
                for spec in registry.cycle_specs(conn, settings.schema)
            ),
        )


def conninfo(connection: Any) -> str:  # Any: Airflow's Connection, whose get() is untyped
    """The libpq connection string of an Airflow connection; extras that libpq does not know are left out."""
    from psycopg.conninfo import make_conninfo

    facts = {
        "host": connection.host,
        "port": connection.port,
        "user": connection.login,
        "password": connection.password,
        "dbname": connection.schema,
    }
    facts |= {key: value for key, value in connection.extra_dejson.items() if key in LIBPQ_EXTRAS}
    return make_conninfo("", **{key: value for key, value in facts.items() if value not in (None, "")})


def build_dag(cycle: KnownCycle, conn_id: str = "detection_default") -> DAG:
    """The Dag of one cycle; a cycle that cannot be scheduled becomes a Dag that states the reason."""
    if reason := schedule_fault(cycle.spec.schedule):
        return _refused(cycle, f"schedule {cycle.spec.schedule!r} of cycle {cycle.spec.cycle_id!r}: {reason}")
    try:
        return _Builder(cycle, conn_id).build()
    except Exception as error:  # one bad cycle must not take the file, and with it the others, down
        log.exception("the Dag of cycle %s cannot be made", cycle.spec.cycle_id)
        return _refused(cycle, f"cycle {cycle.spec.cycle_id!r}: {type(error).__name__}: {error}")


def schedule_fault(schedule: str) -> str | None:
    """Why a schedule is no cron expression that ever fires; None if it is one."""
    from croniter import croniter  # type: ignore[import-untyped]

    try:
        timetable = CronTriggerTimetable(schedule, timezone="UTC")
        timetable.validate()
        croniter(timetable.expression).get_next()
    except Exception as error:  # croniter raises a dozen kinds
        return str(error) or type(error).__name__
    return None


def _refused(cycle: KnownCycle, reason: str) -> DAG:
    with DAG(
        dag_id_of(cycle.spec.cycle_id),
        schedule=None,
        catchup=False,
        tags=["detection"],
        doc_md=f"**Refused.** {reason}",
    ) as dag:
        RefusedOperator(task_id="registration_error", reason=reason, retries=0)
    return dag


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What a model's `task_options` may set; everything else is refused."""

    queue: str | None = None
    pool: str | None = None
    priority_weight: int | None = None
    retries: int | None = None
    execution_timeout: float | None = None  # seconds
    memory_limit: float | None = None  # MiB, heeded where versions run in processes of their own
    executor: str | None = None

    @classmethod
    def of(cls, held: Mapping[str, Any]) -> TaskOptions:  # Any: a JSON object
        """Check and take over; ConfigurationError names the option and the fault."""
        checks: Mapping[str, Callable[[Any], bool]] = {
            "queue": lambda v: isinstance(v, str) and bool(v),
            "pool": lambda v: isinstance(v, str) and bool(v),
            "executor": lambda v: isinstance(v, str) and bool(v),
            "priority_weight": lambda v: _is_number(v, int) and v >= 1,
            "retries": lambda v: _is_number(v, int) and v >= 0,
            "execution_timeout": lambda v: _is_number(v, int, float) and 0 < v <= 7 * 86400,
            "memory_limit": lambda v: _is_number(v, int, float) and 16 <= v <= 2**24,
        }
        for key, value in sorted(held.items()):
            if key not in checks:
                raise ConfigurationError(
                    f"task_options: unknown {key!r}; known are {', '.join(sorted(checks))}"
                )
            if not checks[key](value):
                raise ConfigurationError(f"task_options: {key} cannot be {value!r}")
        options = cls(**held)
        if options.executor:
            _require_executor(options.executor)
        return options

    def arguments(self, *, is_primary: bool) -> dict[str, Any]:  # Any: BaseOperator's own
        """The operator's arguments; a shadow comes behind its champion in any queue."""
        weight = self.priority_weight or PRIMARY_PRIORITY
        found: dict[str, Any] = {
            "priority_weight": weight if is_primary else min(SHADOW_PRIORITY, weight),
            "weight_rule": "absolute",
        }
        for key in ("queue", "pool", "retries", "executor"):
            if (value := getattr(self, key)) is not None:
                found[key] = value
        if self.execution_timeout is not None:
            found["execution_timeout"] = timedelta(seconds=self.execution_timeout)
        return found


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _require_executor(name: str) -> None:
    """An unknown executor would be an import error of the whole file."""
    from airflow.executors.executor_loader import ExecutorLoader

    try:
        ExecutorLoader.lookup_executor_name_by_str(name)
    except Exception as error:
        raise ConfigurationError(f"task_options: executor {name!r} is not configured") from error


def task_ids(models: Iterable[ModelSpec]) -> dict[tuple[str, str | None], str]:
    """A task id for each model and each shadow; where two would be the same, the later gets a `_`."""
    ordered = sorted(models, key=lambda m: m.model_id)
    keys: list[tuple[str, str | None]] = [(m.model_id, None) for m in ordered]
    keys += [(m.model_id, v.version) for m in ordered for v in m.shadows]
    taken, found = set(RESERVED), {}
    for key in keys:
        name = task_id_of(*key)
        while name in taken:
            name += "_"
        taken.add(name)
        found[key] = name
    return found


class _Builder:
    """Builds the Dag of one cycle."""

    def __init__(self, cycle: KnownCycle, conn_id: str) -> None:
        self.spec, self.conn_id = cycle.spec, conn_id
        self.models = {m.model_id: m for m in sorted(cycle.models, key=lambda m: m.model_id)}
        self.plan: ExecutionPlan = build_plan(self.models.values(), strict=False)
        self.ids = task_ids(self.models.values())
        self.options, self.faults = self._options()
        self.frame = {"cycle_id": self.spec.cycle_id, "detection_conn_id": conn_id}

    def _options(self) -> tuple[dict[str, TaskOptions], dict[str, str]]:
        options, faults = {}, {}
        for model_id, model in self.models.items():
            try:
                options[model_id] = TaskOptions.of(model.task_options)
            except ConfigurationError as error:
                options[model_id], faults[model_id] = TaskOptions(), f"model {model_id!r}: {error}"
        return options, faults

    def build(self) -> DAG:
        spec = self.spec
        with DAG(
            dag_id_of(spec.cycle_id),
            description=spec.description or f"Detection cycle {spec.cycle_id}",
            schedule=CronTriggerTimetable(spec.schedule, timezone="UTC") if spec.is_enabled else None,
            start_date=spec.start_date,
            catchup=False,
            max_active_runs=spec.max_active_runs,
            tags=["detection"],
            doc_md=self.doc(),
            params=run_params(),
            default_args={"retries": RETRIES, "retry_delay": RETRY_DELAY},
        ) as dag:
            first = OpenCycleOperator(task_id=OPEN, **self.frame, **_frame_priority())
            last = CloseCycleOperator(
                task_id=CLOSE, **self.frame, trigger_rule="all_done", **_frame_priority()
            )
            if spec.legacy_entrypoint:
                first >> LegacyPathOperator(task_id=LEGACY, **self.frame) >> last
            if spec.execution is Execution.INLINE:
                first >> InlineCycleOperator(task_id=INLINE, **self.frame) >> last
            else:
                self._models(first, last)
        return dag

    def _models(self, first: BaseOperator, last: BaseOperator) -> None:
        champions = {m: self._task(self.models[m], None) for m in self.models}
        other = OtherVersionsOperator(
            task_id=OTHER,
            **self.frame,
            trigger_rule="all_done",
            priority_weight=SHADOW_PRIORITY,
            weight_rule="absolute",
        )
        for model_id, champion in champions.items():
            upstreams = self._upstreams(model_id)
            for upstream in upstreams:
                champions[upstream] >> champion
            if not upstreams:
                first >> champion
            champion >> [other, last]
            for shadow in self.models[model_id].shadows:
                champion >> self._task(self.models[model_id], shadow) >> last
        first >> other >> last

    def _upstreams(self, model_id: str) -> list[str]:
        """The upstreams to draw: all registered ones but those that are broken on both ends (loops)."""
        broken = self.plan.broken
        return [
            u
            for u in sorted(self.models[model_id].depends_on)
            if u in self.models and u != model_id and not (u in broken and model_id in broken)
        ]

    def _task(self, model: ModelSpec, shadow: VersionSpec | None) -> DetectionModelOperator:
        version = shadow.version if shadow else None
        return DetectionModelOperator(
            task_id=self.ids[model.model_id, version],
            model_id=model.model_id,
            version=version,
            problem=self.faults.get(model.model_id),
            trigger_rule="none_failed",
            **self.frame,
            **self.options[model.model_id].arguments(is_primary=shadow is None),
        )

    def doc(self) -> str:
        """The Dag's documentation: graph, versions, and the rule for past cycles."""
        parts = [
            f"# Detection cycle `{self.spec.cycle_id}`",
            self.spec.description,
            self._graph(),
            self._table(),
        ]
        reasons = {**self.plan.broken, **self.faults}
        if reasons:
            parts.append("## Broken\n\n" + "\n".join(f"- `{m}`: {reasons[m]}" for m in sorted(reasons)))
        parts.append(f"## Which versions a run takes\n\n{AS_OF_RULE}")
        return "\n\n".join(part for part in parts if part) + "\n"

    def _graph(self) -> str:
        number = {key: f"n{i}" for i, key in enumerate(self.ids)}
        lines = ["```mermaid", "graph LR"]
        for (model_id, version), node in number.items():
            label = (model_id if version is None else f"{model_id} {version}").replace('"', "'")
            lines.append(f'  {node}["{label}"]' if version is None else f'  {node}(["{label}"])')
        for model_id in self.models:
            lines += [f"  {number[u, None]} --> {number[model_id, None]}" for u in self._upstreams(model_id)]
        lines += [f"  {number[m, None]} -.-> {node}" for (m, v), node in number.items() if v is not None]
        return "\n".join([*lines, "```"])

    def _table(self) -> str:
        rows = [
            f"| {_cell(m.model_id)} | {_cell(v.version)} | {v.role.value} | `{_cell(_json(v.params))}` |"
            for m in self.models.values()
            for v in ((m.primary, *m.shadows) if m.primary else m.shadows)
        ]
        off = [m.model_id for m in self.models.values() if not m.is_enabled]
        note = f"\n\nSwitched off: {', '.join(off)}" if off else ""
        none = (
            f"\n\nWithout a champion: {', '.join(self.plan.without_primary)}"
            if self.plan.without_primary
            else ""
        )
        return "\n".join(["| model | version | role | params |", "|---|---|---|---|", *rows]) + note + none


def _frame_priority() -> dict[str, Any]:  # Any: BaseOperator's own
    return {"priority_weight": FRAME_PRIORITY, "weight_rule": "absolute"}


def _json(params: Mapping[str, Any]) -> str:  # Any: a JSON object
    return json.dumps(dict(params), sort_keys=True, default=str)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'").replace("\n", " ")


def run_params() -> dict[str, Param]:
    """What a run may be told: where its plan comes from."""
    modes: Sequence[str] = [m.value for m in Mode]
    return {
        "mode": Param(
            Mode.AS_OF.value,
            type="string",
            enum=modes,
            title="Plan",
            description="as_of: the roles in force at the cycle; as_run: the plan recorded when it ran; "
            "override: the versions named in replay, as a comparison",
        ),
        "replay": Param(
            [],
            type="array",
            items={"type": "string"},
            title="Versions to replay",
            description="model@version, one per line; only with override",
        ),
        "known_at": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="As known at",
            description="the roles as they were known at this instant; empty: at the cycle itself",
        ),
    }
