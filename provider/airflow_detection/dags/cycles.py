"""One Airflow Dag for each registered cycle; cheap to import: a driver is loaded to ask the registry alone.

The registry is asked at most every `[detection] plan_ttl` seconds; in between, and while it does not answer,
the Dags come from the last known good plan in `[detection] state_dir`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from airflow.sdk import (
    DAG,
    Asset,
    BaseOperator,
    CronTriggerTimetable,
    Param,
    get_parsing_context,
)
from airflow.sdk.definitions.param import ParamsDict

from airflow_detection.dags.deadline import deadline_alert, deadline_problem
from airflow_detection.dags.documentation import MAX_TEXT, dag_doc
from airflow_detection.domain.cron import cron_problem, split_zone
from airflow_detection.domain.markdown import prose
from airflow_detection.domain.names import (
    CLOSE,
    INLINE,
    LEGACY,
    OPEN,
    OTHER,
    asset_uri_of,
    dag_id_of,
    shard_task_ids,
    task_ids,
)
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Execution, Mode, ModelSpec, Role, VersionSpec
from airflow_detection.domain.text import cut, visible
from airflow_detection.engine import flags
from airflow_detection.engine.plan import ExecutionPlan, build_plan
from airflow_detection.errors import ConfigurationError
from airflow_detection.operators.cycle import (
    CloseCycleOperator,
    InlineCycleOperator,
    LegacyPathOperator,
    OpenCycleOperator,
    OtherVersionsOperator,
    RefusedOperator,
    no_path_reason,
)
from airflow_detection.operators.model import DetectionModelOperator, DetectionShardOperator
from airflow_detection.plan_cache.cache import known_registry
from airflow_detection.plan_cache.known import KnownCycle, KnownRegistry
from airflow_detection.registration.task_options import (
    CLOSE_PRIORITY,
    OPEN_PRIORITY,
    PRIMARY_PRIORITY,
    SHADOW_PRIORITY,
    TaskOptions,
    default_arg_problems,
    default_args_of,
)

log = logging.getLogger(__name__)
RETRIES, RETRY_DELAY = 2, timedelta(seconds=30)
TAG, HELD_BACK, LAST_KNOWN, REGISTRY_OFF = "detection", "held back", "last known plan", "registry off"
NO_DEADLINE, NO_RESOURCES = "no deadline", "no resources"
_NO_RESOURCES_NOTE = (
    "The resources of its models are left out: apache-airflow-providers-cncf-kubernetes is not installed"
    " where Dags are parsed."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DagArguments:
    """What a team gives to the Dags of all cycles; what is registered of a cycle comes on top."""

    default_args: Mapping[str, Any] = field(default_factory=dict)  # Any: BaseOperator's own
    tags: Sequence[str] = ()
    owner_links: Mapping[str, str] = field(default_factory=dict)
    on_failure_callback: Any = None  # Any: what Airflow takes, one or a list
    deadline: Any = None  # Any: as above
    allowed_prefixes: tuple[str, ...] = ()
    """Modules that the callback of a cycle's own deadline may be of."""


_NO_ARGUMENTS = DagArguments()


def cycle_dags(
    detection_conn_id: str | None = None,
    settings: Settings | None = None,
    *,
    default_args: Mapping[str, Any] | None = None,  # Any: BaseOperator's own
    tags: Sequence[str] = (),
    owner_links: Mapping[str, str] | None = None,
    on_failure_callback: Any = None,  # Any: what Airflow takes
    deadline: Any = None,  # Any: as above
) -> dict[str, DAG]:
    """Make the Dag of each registered cycle, by Dag id, in order of cycle id.

    Where Airflow runs one task, only that task's Dag is made, and for a model's task no more of it than the
    task and its neighbours.

    Args:
        default_args: of every task; a model's task options win.
        tags: of every Dag, beside `detection` and those of its cycle.
        owner_links: an address for each owner.
        on_failure_callback: of every Dag: one function or notifier of Airflow, or a list of them.
        deadline: of every Dag: one `DeadlineAlert`, or a list of them.

    Raises:
        RegistryUnavailable: the registry does not answer and there is no last known good plan.
    """
    if settings is None:
        from airflow_detection import config

        settings = config.settings()
    conn_id, context = detection_conn_id or settings.conn_id, get_parsing_context()
    known = known_registry(conn_id, settings, dag_id=context.dag_id, task_id=context.task_id)
    arguments = DagArguments(
        default_args=default_args or {},
        tags=tags,
        owner_links=owner_links or {},
        on_failure_callback=on_failure_callback,
        deadline=deadline,
        allowed_prefixes=settings.allowed_prefixes,
    )
    dags = dags_of(known, conn_id, only=context.dag_id, task_id=context.task_id, arguments=arguments)
    return {dag.dag_id: dag for dag in dags}


def dags_of(
    known: KnownRegistry,
    conn_id: str = "detection_default",
    *,
    only: str | None = None,
    task_id: str | None = None,
    arguments: DagArguments = _NO_ARGUMENTS,
) -> list[DAG]:
    """Make the Dags of a known registry, in order of cycle id; of one Dag id if `only` names it.

    Args:
        task_id: the task that is about to run, see `build_dag`.
    """
    notes = {}
    if known.is_last_known:
        notes[LAST_KNOWN] = f"The registry does not answer. This is the plan of {known.instant.isoformat()}."
    ids = known.dag_ids
    dags = []
    for cycle in sorted(known.cycles, key=lambda c: c.spec.cycle_id):
        cycle_id = cycle.spec.cycle_id
        if only not in (None, ids[cycle_id]):
            continue
        if ids[cycle_id] == dag_id_of(cycle_id):
            dags.append(build_dag(cycle, conn_id, notes, task_id, arguments))
        else:
            first = next(other for other, dag_id in ids.items() if dag_id == dag_id_of(cycle_id))
            reason = f"cycle {cycle_id!r} would have the Dag of cycle {first!r}: give it another id"
            dags.append(refused_dag(ids[cycle_id], reason))
    return dags


def build_dag(
    cycle: KnownCycle,
    conn_id: str = "detection_default",
    notes: dict[str, str] | None = None,
    task_id: str | None = None,
    arguments: DagArguments = _NO_ARGUMENTS,
) -> DAG:
    """Make the Dag of one cycle; a cycle that cannot be scheduled becomes a Dag that states the reason.

    Args:
        notes: sentences that stand above the documentation, by the tag that shows each.
        task_id: if it is a model's task, nothing is made but this task, its neighbours, and no documentation.
    """
    cycle_id = cycle.spec.cycle_id
    if cycle.refused_reason:
        return refused_dag(dag_id_of(cycle_id), cycle.refused_reason)
    if reason := cron_problem(cycle.spec.schedule):
        return refused_dag(dag_id_of(cycle_id), f"schedule of cycle {cycle_id!r}: {reason}")
    own_notes = {}
    if cycle.held_back_reason:
        own_notes[HELD_BACK] = f"A change is held back: {cycle.held_back_reason}."
    if not cycle.spec.legacy_entrypoint and not flags.use_model_registry():
        own_notes[REGISTRY_OFF] = no_path_reason(cycle_id)
    wrong = [f"default_args.{key}: {reason}" for key, reason in default_arg_problems(cycle.spec.default_args)]
    if wrong:
        return refused_dag(dag_id_of(cycle_id), f"cycle {cycle_id!r}: {'; '.join(wrong)}")
    try:
        if cycle.spec.deadline and (reason := deadline_problem(cycle.spec, arguments.allowed_prefixes)):
            own_notes[NO_DEADLINE] = f"The cycle has no deadline: {reason}."
        return _Builder(cycle, conn_id, own_notes | (notes or {}), task_id, arguments).build()
    except Exception as error:  # one bad cycle must not take the file, and with it the others, down
        log.exception("the Dag of cycle %s cannot be made", cycle_id)
        return refused_dag(dag_id_of(cycle_id), f"cycle {cycle_id!r}: {type(error).__name__}: {error}")


def refused_dag(dag_id: str, reason: str) -> DAG:
    """Make a Dag without a schedule whose one task fails with the reason."""
    reason = cut(visible(reason), MAX_TEXT)
    with DAG(
        dag_id[:250],
        schedule=None,
        catchup=False,
        tags=[TAG],
        doc_md=f"**Refused.** {prose(reason)}\n",  # a text that ends in `.md` is the name of a file
    ) as dag:
        RefusedOperator(task_id="registration_error", reason=reason, retries=0)
    return dag


class _Builder:
    """Builds the Dag of one cycle."""

    def __init__(
        self,
        cycle: KnownCycle,
        conn_id: str,
        notes: dict[str, str],
        task_id: str | None,
        arguments: DagArguments,
    ) -> None:
        self.arguments = arguments
        self.cycle, self.spec, self.conn_id, self.notes = cycle, cycle.spec, conn_id, notes
        self.models = {m.model_id: m for m in sorted(cycle.models, key=lambda m: m.model_id)}
        self.plan: ExecutionPlan = build_plan(self.models.values(), strict=False)
        self.ids = task_ids(self.models.values())
        self.shard_ids = shard_task_ids(self.models.values(), self.ids)
        named = (*self.ids.items(), *self.shard_ids.items())
        self.target_model = next((m for (m, _), name in named if name == task_id), None)
        """The model whose task is about to run; None where the whole Dag is wanted."""
        self.options, self.option_reasons = self._options()
        self.has_pods = self.target_model is None and self._has_pods()
        self.common_args: dict[str, Any] = {  # Any: the operators' own
            "cycle_id": self.spec.cycle_id,
            "detection_conn_id": conn_id,
            "is_templated": False,
            "do_xcom_push": False,  # counts are in the manifests: a push is one more call of the API
        }

    def _options(self) -> tuple[dict[str, TaskOptions], dict[str, str]]:
        options, reasons = {}, {}
        for model_id in self._neighbours():
            model = self.models[model_id]
            try:
                options[model_id] = TaskOptions.of(model.task_options)
            except ConfigurationError as error:
                reasons[model_id] = cut(visible(f"model {model_id!r}: {error}"), MAX_TEXT)
                options[model_id] = TaskOptions()
        return options, reasons

    def _has_pods(self) -> bool:
        """Tell whether tasks have pods with resources of their own; a note says where they cannot."""
        if not any(
            o.resources or any("resources" in own for own in o.roles.values()) for o in self.options.values()
        ):
            return False
        from airflow_detection.dags.pods import has_client

        if not has_client():
            self.notes = {NO_RESOURCES: _NO_RESOURCES_NOTE} | self.notes
        return has_client()

    def build(self) -> DAG:
        spec, arguments = self.spec, self.arguments
        expression, timezone = split_zone(spec.schedule)
        own_args = {"owner": spec.owner} if spec.owner else {}
        with DAG(
            dag_id_of(spec.cycle_id),
            description=cut(visible(" ".join(spec.description.split())), MAX_TEXT) or None,
            schedule=CronTriggerTimetable(expression, timezone=timezone) if spec.is_enabled else None,
            start_date=spec.start_date,
            catchup=spec.catchup,
            max_active_runs=spec.max_active_runs,
            tags=[TAG, *self.notes, *arguments.tags, *spec.tags],
            owner_links={**arguments.owner_links, **spec.owner_links},
            on_failure_callback=arguments.on_failure_callback,
            deadline=self._deadlines() or None,
            doc_md=None
            if self.target_model is not None
            else dag_doc(self.cycle, self.plan, self.broken(), self.notes.values()),
            default_args={
                "retries": RETRIES,
                "retry_delay": RETRY_DELAY,
                **arguments.default_args,
                **default_args_of(spec.default_args),
                **own_args,
            },
        ) as dag:
            first = OpenCycleOperator(task_id=OPEN, **self.common_args, **_priority(OPEN_PRIORITY))
            last = CloseCycleOperator(
                task_id=CLOSE, **self.common_args, trigger_rule="all_done", **_priority(CLOSE_PRIORITY)
            )
            as_champions = {**self.common_args, **_priority(PRIMARY_PRIORITY)}
            if spec.legacy_entrypoint:
                first >> LegacyPathOperator(task_id=LEGACY, **as_champions) >> last
            if spec.execution is Execution.INLINE:
                outlets = [Asset(asset_uri_of(spec.cycle_id, model_id)) for model_id in self.models]
                first >> InlineCycleOperator(task_id=INLINE, outlets=outlets, **as_champions) >> last
            else:
                self._model_tasks(first, last)
        # After the tasks: each would take a copy, which is most of the time and of the bytes of a big Dag.
        # Not with the setter, which validates the three schemas for each Dag: a test does that once.
        vars(dag)["params"] = ParamsDict(run_params())
        return dag

    def _deadlines(self) -> list[Any]:  # Any: a DeadlineAlert
        given = self.arguments.deadline
        deadlines = list(given) if isinstance(given, (list, tuple)) else [given] if given else []
        if self.spec.deadline and NO_DEADLINE not in self.notes:
            deadlines.append(deadline_alert(self.spec, self.arguments.allowed_prefixes))
        return deadlines

    def broken(self) -> dict[str, str]:
        """Every reason why a model cannot run, by model id."""
        reasons = dict(self.plan.broken)
        for model_id, reason in self.option_reasons.items():
            reasons[model_id] = f"{reasons[model_id]}; {reason}" if model_id in reasons else reason
        return reasons

    def _model_tasks(self, first: BaseOperator, last: BaseOperator) -> None:
        champions = {m: self._task(self.models[m], None) for m in self._neighbours()}
        other = OtherVersionsOperator(
            task_id=OTHER,
            **self.common_args,
            trigger_rule="all_done",
            **_priority(SHADOW_PRIORITY),
        )
        for model_id, champion in champions.items():
            upstreams = self._upstreams(model_id)
            upstream_tasks = [champions[upstream] for upstream in upstreams if upstream in champions]
            if upstream_tasks or not upstreams:
                self._set_upstream(champion, model_id, None, upstream_tasks or first)
            for shadow in self.models[model_id].shadows if self.target_model in (None, model_id) else ():
                task = self._task(self.models[model_id], shadow)
                self._set_upstream(task, model_id, shadow, champion)
                task >> last
        other.set_upstream([first, *champions.values()])
        last.set_upstream([other, *champions.values()])

    def _set_upstream(
        self,
        task: DetectionModelOperator,
        model_id: str,
        shadow: VersionSpec | None,
        upstream: BaseOperator | Sequence[BaseOperator],
    ) -> None:
        """Put a version's task behind others, with its shards in between where it runs in shards."""
        if (task_id := self.shard_ids.get((model_id, shadow.version if shadow else None))) is None:
            task.set_upstream(upstream)
            return
        model = self.models[model_id]
        arguments = {**self._arguments(model, shadow), "task_id": task_id, "outlets": []}
        shards = DetectionShardOperator.partial(**arguments).expand(shard=list(range(model.shards)))
        shards.set_upstream(upstream)
        task.set_upstream(shards)

    def _neighbours(self) -> list[str]:
        """Return the models to make tasks of: all, or the target, those it reads and those that read it."""
        if self.target_model is None:
            return list(self.models)
        model_ids = {self.target_model, *self._upstreams(self.target_model)}
        return [m for m in self.models if m in model_ids or self.target_model in self._upstreams(m)]

    def _upstreams(self, model_id: str) -> list[str]:
        """Return the upstreams to draw: the registered ones, unless both models are broken (loops)."""
        broken = self.plan.broken
        return [
            u
            for u in sorted(self.models[model_id].depends_on)
            if u in self.models and u != model_id and not (u in broken and model_id in broken)
        ]

    def _task(self, model: ModelSpec, shadow: VersionSpec | None) -> DetectionModelOperator:
        return DetectionModelOperator(**self._arguments(model, shadow))

    def _arguments(
        self, model: ModelSpec, shadow: VersionSpec | None
    ) -> dict[str, Any]:  # Any: the operator's own
        key = (model.model_id, shadow.version if shadow else None)
        options = self.options[model.model_id].of_role(shadow.role if shadow else Role.PRIMARY)
        return {
            "task_id": self.ids[key],
            "model_id": model.model_id,
            "version": shadow.version if shadow else None,
            "problem": self.option_reasons.get(model.model_id),
            "trigger_rule": "none_failed",
            "outlets": [] if shadow else [Asset(asset_uri_of(self.spec.cycle_id, model.model_id))],
            "executor_config": self._executor_config(options),
            **({"shards": model.shards} if key in self.shard_ids else {}),
            **self.common_args,
            **options.arguments(is_primary=shadow is None),
        }

    def _executor_config(self, options: TaskOptions) -> dict[str, Any] | None:  # Any: Airflow's own
        """Return what the scheduler gives to the executor; a task that runs has no use of it."""
        if self.target_model is not None or not options.has_executor_config:
            return None
        from airflow_detection.dags.pods import executor_config

        return executor_config(options, with_pods=self.has_pods)


def _priority(weight: int) -> dict[str, Any]:  # Any: BaseOperator's own
    return {"priority_weight": weight, "weight_rule": "absolute"}


def run_params() -> dict[str, Param]:
    """Return the params of a run: where its plan comes from."""
    modes: Sequence[str] = [m.value for m in Mode]
    return {
        "mode": Param(
            Mode.AS_OF.value,
            type="string",
            enum=modes,
            title="Plan",
            description="as_of: roles in force at the cycle; as_run: the recorded plan; override: a replay",
        ),
        "replay": Param(
            None,
            type=["null", "array"],
            items={"type": "string"},
            title="Versions to replay",
            description="model@version, one a line; override only",
        ),
        "known_at": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="As known at",
            description="corrections up to then included; empty: at the cycle",
        ),
    }
