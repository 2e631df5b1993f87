"""Runs of a generated Dag on a machine that has one slot, in a process of their own, for `tests.forked`.

Which task comes next is Airflow's: the scheduler's own choice of what is queued, one at a time.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.operators.flight import DAG_ID, Flights


def order_of(at: str, count: int) -> list[str]:
    """Run `count` cycles, five minutes apart, that are all due at once; return `cycle task` as they began."""
    from airflow.models.dag import DagModel
    from airflow.utils.state import DagRunState, TaskInstanceState

    first = datetime.fromisoformat(at)
    stages = [f"cycle {number}" for number in range(count)]
    flights = Flights(first, stages)
    flights.instants = {stage: first + timedelta(minutes=5 * n) for n, stage in enumerate(stages)}
    flights.parse()
    flights.create()
    session, began = flights.session, []
    session.get_one(DagModel, DAG_ID).is_paused = False
    for stage in stages:
        flights.run_of(stage).set_state(DagRunState.RUNNING)
    session.commit()
    while True:
        for stage in stages:
            run = flights.run_of(stage)
            run.dag = flights.scheduler.scheduler_dag_bag.get_dag_for_run(run, session=session)
            schedulable, _ = run.update_state(session=session, execute_callbacks=False)
            run.schedule_tis(schedulable, session=session)
        session.commit()
        chosen = flights.scheduler._executable_task_instances_to_queued(max_tis=1, session=session)
        if not chosen:
            break
        (ti,) = chosen
        stage = next(s for s in stages if flights.instants[s] == ti.dag_run.logical_date)
        began.append(f"{stage} {ti.task_id}")
        ti.state = TaskInstanceState.SCHEDULED
        ti.try_number += 1
        flights.run_task(ti)
    assert {flights.run_of(stage).state for stage in stages} <= {DagRunState.SUCCESS}, began
    return began
