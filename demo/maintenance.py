"""The maintenance Dag: one run for each hour that the cycles reach into.

The first run takes place beside the cycles, the others follow when the cycles have ended: each reports on the
hour that ends at its tick, and a report is taken only once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from demo.api import Airflow

DAG_ID = "detection_maintenance"
ENDED = frozenset({"success", "failed"})
TROUBLE = frozenset({"failed", "up_for_retry", "upstream_failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of the maintenance Dag: its tick (UTC), what started it, its state, and its tasks' states."""

    at: datetime
    kind: str
    state: str
    tasks: tuple[tuple[str, str], ...]

    @property
    def is_good(self) -> bool:
        """Tell whether it succeeded; one of the schedule may still be under way, without a fault."""
        has_ended = self.state == "success" or self.kind == "scheduled"
        return has_ended and not any(state in TROUBLE for _, state in self.tasks)


def hours_of(cycles: Sequence[datetime]) -> list[datetime]:
    """Return the full hours from the hour of the first cycle to the last cycle."""
    first = cycles[0].replace(minute=0, second=0, microsecond=0)
    return [first + timedelta(hours=n) for n in range((cycles[-1] - first) // timedelta(hours=1) + 1)]


def start(airflow: Airflow, hours: Sequence[datetime]) -> None:
    """Run the Dag for the first of `hours`, and every hour from now on.

    The backfill comes first: Airflow's scheduler may end where one makes the run that it is about to make.
    """
    airflow.end_leftovers(DAG_ID, hours[0], hours[-1])
    airflow.backfill(DAG_ID, hours[0], hours[0], max_active_runs=1)
    airflow.unpause(DAG_ID)


def start_others(airflow: Airflow, hours: Sequence[datetime]) -> None:
    """Run the Dag for the others of `hours`, one after the other; the first run must have ended."""
    if hours[1:]:
        airflow.end_leftovers(DAG_ID, hours[0], hours[0])  # no second backfill starts beside an open one
        airflow.backfill(DAG_ID, hours[1], hours[-1], max_active_runs=1)


def has_ended(airflow: Airflow, hours: Sequence[datetime]) -> bool:
    """Tell whether the runs for `hours` have ended."""
    states = airflow.run_states(DAG_ID, hours[0], hours[-1])
    return sum(states[state] for state in ENDED) >= len(hours)


def runs(airflow: Airflow, hours: Sequence[datetime], *, since: datetime) -> list[Run]:
    """Return the runs for `hours` and those that the schedule has started since, oldest tick first."""
    records = [run for run in airflow.runs(DAG_ID, hours[0], hours[-1]) if run["run_type"] == "backfill"]
    records += [run for run in airflow.runs(DAG_ID, hours[-1], None) if _is_scheduled(run, since)]
    return [
        Run(
            at=datetime.fromisoformat(run["logical_date"]),
            kind=run["run_type"],
            state=run["state"],
            tasks=airflow.task_states(DAG_ID, run["dag_run_id"]),
        )
        for run in sorted(records, key=lambda run: str(run["logical_date"]))
    ]


def _is_scheduled(run: dict[str, object], since: datetime) -> bool:
    started_at = run["start_date"]
    return (
        run["run_type"] == "scheduled"
        and started_at is not None
        and datetime.fromisoformat(str(started_at)) >= since
    )
