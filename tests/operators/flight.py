"""Runs of a generated Dag that are under way while the registry changes, in a process of their own.

A flight is `{"change": name, "at": ISO instant, "stages": [names]}`, its answer `{stage: {"state": ...,
"tasks": {id: state}}}`. The runs are taken as far as their stage with the Dag of before, the change is made,
and all of them are ended with the Dag of after. What decides is Airflow's: the parser, the scheduler's
`update_state` and `verify_integrity`, backfills, `clear`, and the task runner.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from tests.operators.registry_changes import CHANGES

DAG_ID = "detection_fleet"
Stop = Callable[[str], bool]
STAGES: dict[str, Stop] = {
    "queued": lambda _: True,
    "opened": lambda task_id: task_id != "open_cycle",
    "midway": lambda task_id: task_id not in ("open_cycle", "tracks"),
    "beside": lambda task_id: task_id in ("tracks__2", "close_cycle"),
    "closing": lambda task_id: task_id == "close_cycle",
    "backfill": lambda task_id: task_id != "open_cycle",
    "cleared": lambda _: False,
    "reopened": lambda _: False,
}
"""At which task a run waits for the change; the last two have ended, and are cleared after it."""
MAX_IDLE = 3
CLEARED = {"cleared": ("tracks", "run_cycle"), "reopened": ("open_cycle",)}


class Flights:
    """The runs, one for each stage, five minutes apart."""

    def __init__(self, at: datetime, stages: list[str]) -> None:
        from airflow import settings
        from airflow.jobs.job import Job
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

        assert settings.Session is not None
        self.session = settings.Session()
        self.scheduler = SchedulerJobRunner(Job())
        self.instants = {stage: at + timedelta(minutes=5 * n) for n, stage in enumerate(STAGES)}
        self.stages = stages
        self.forget()

    def forget(self) -> None:
        """Drop what another test left of the Dag."""
        from airflow.models.backfill import Backfill, BackfillDagRun
        from airflow.models.dagrun import DagRun
        from sqlalchemy import delete

        for model in (BackfillDagRun, DagRun, Backfill):
            self.session.execute(delete(model))
        self.session.commit()

    def parse(self) -> None:
        """Parse the Dag folder and store its Dags, as the Dag processor does."""
        from airflow.dag_processing.bundles.manager import DagBundlesManager
        from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

        manager = DagBundlesManager()
        manager.sync_bundles_to_db(session=self.session)
        self.session.commit()
        for bundle in manager.get_all_dag_bundles():
            bundle.initialize()
            bag = BundleDagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
            sync_bag_to_db(bag, bundle.name, bundle.version)

    def create(self) -> None:
        """Create the runs, queued."""
        from airflow.models.backfill import ReprocessBehavior, _create_backfill
        from airflow.models.dagrun import DagRun
        from airflow.utils.state import DagRunState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        for stage in self.stages:
            at = self.instants[stage]
            if stage != "backfill":
                self._dag().create_dagrun(
                    run_id=DagRun.generate_run_id(
                        run_type=DagRunType.SCHEDULED, logical_date=at, run_after=at
                    ),
                    logical_date=at,
                    data_interval=(at, at),
                    run_after=at,
                    run_type=DagRunType.SCHEDULED,
                    triggered_by=DagRunTriggeredByType.TIMETABLE,
                    state=DagRunState.QUEUED,
                    session=self.session,
                )
        self.session.commit()
        if "backfill" not in self.stages:
            return
        _create_backfill(
            dag_id=DAG_ID,
            from_date=self.instants["backfill"],
            to_date=self.instants["backfill"],
            max_active_runs=1,
            reverse=False,
            dag_run_conf=None,
            triggering_user_name=None,
            reprocess_behavior=ReprocessBehavior.NONE,
        )

    def _dag(self) -> Any:  # Any: the scheduler's Dag
        from airflow.models.serialized_dag import SerializedDagModel

        row = self.session.scalar(SerializedDagModel.latest_item_select_object(DAG_ID))
        assert row is not None
        return row.dag

    def run_of(self, stage: str) -> Any:  # Any: a DagRun
        """The run of a stage."""
        from airflow.models.dagrun import DagRun
        from sqlalchemy import select

        query = select(DagRun).where(DagRun.dag_id == DAG_ID, DagRun.logical_date == self.instants[stage])
        return self.session.scalars(query).one()

    def fly(self, stage: str, stop: Stop = lambda _: False) -> None:
        """Take a run on until it has ended, or the next task is one that it waits at."""
        from airflow.utils.state import DagRunState

        run = self.run_of(stage)
        if stop("open_cycle"):
            return
        if run.state == DagRunState.QUEUED:
            run.set_state(DagRunState.RUNNING)
            self.session.commit()
        idle = 0
        while run.state == DagRunState.RUNNING and idle < MAX_IDLE:
            run = self.run_of(stage)
            assert self.scheduler._verify_integrity_if_dag_changed(run, self.session)
            run.dag = self.scheduler.scheduler_dag_bag.get_dag_for_run(run, session=self.session)
            schedulable, _ = run.update_state(session=self.session, execute_callbacks=False)
            ready = [ti for ti in schedulable if not stop(ti.task_id)]
            for ti in ready:
                ti.try_number += 1
                self.run_task(ti)
            self.session.commit()
            if schedulable and not ready:
                return
            idle = 0 if ready else idle + 1  # a state that was only marked, such as upstream_failed

    def run_task(self, ti: Any) -> None:  # Any: a TaskInstance
        """Run a task as a worker does."""
        from airflow.sdk.definitions.dag import _run_task
        from airflow.utils.state import TaskInstanceState

        from airflow_detection.dags.cycles import cycle_dags

        self.session.commit()
        with worker_parsing(ti.task_id):
            task = cycle_dags()[DAG_ID].task_dict.get(ti.task_id)
        if task is None:  # as a worker does: "Task not found in Dag during start up"
            ti.set_state(TaskInstanceState.FAILED)
            return
        task.retries = 0
        try:
            _run_task(ti=ti, task=task)
        except Exception as error:
            print(f"{ti.task_id}: {error!r}", file=sys.stderr)

    def clear(self, stage: str) -> None:
        """Clear a task of a run that has ended, and what is behind it, as the UI does."""
        dag, run = self._dag(), self.run_of(stage)
        asked = [t for t in CLEARED[stage] if t in {ti.task_id for ti in run.get_task_instances()}]
        task_ids = [t for t in asked if t in dag.task_dict] or [next(iter(dag.task_dict))]
        behind = dag.partial_subset(task_ids=task_ids, include_downstream=True, include_upstream=False)
        dag.clear(
            task_ids=list(behind.task_dict),
            run_id=run.run_id,
            run_on_latest_version=True,
            session=self.session,
        )
        self.session.commit()

    def states(self, stage: str) -> dict[str, Any]:  # Any: JSON
        """Return what became of a run."""
        self.session.expire_all()
        run = self.run_of(stage)
        return {
            "state": str(run.state),
            "tasks": {ti.task_id: str(ti.state) for ti in run.get_task_instances(session=self.session)},
        }


@contextmanager
def worker_parsing(task_id: str) -> Iterator[None]:
    """Parse as a worker does that is about to run one task."""
    from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager

    with _airflow_parsing_context_manager(dag_id=DAG_ID, task_id=task_id):
        yield


def fly_all(change: str, at: str, stages: list[str]) -> dict[str, Any]:
    """Take every run to its stage, change the registry, and end them all."""
    from airflow_detection.operators.context import open_database, settings_of

    flights = Flights(datetime.fromisoformat(at), stages)
    flights.parse()
    flights.create()
    for stage in stages:
        flights.fly(stage, STAGES[stage])
    with open_database("detection_default", settings_of()) as db:
        CHANGES[change](db.conn)
    flights.parse()
    for stage in stages:
        if stage in CLEARED:
            flights.clear(stage)
        flights.fly(stage)
    return {stage: flights.states(stage) for stage in stages}
