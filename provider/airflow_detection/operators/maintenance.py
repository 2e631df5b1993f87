"""The operators of the maintenance Dag, each with a switch of its own in `[detection]`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.configuration import conf
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from airflow_detection.domain.settings import SECTION
from airflow_detection.operators.context import open_database, settings_of, terminal_errors

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_detection.store.partitions.upkeep import UpkeepReport


class MaintenanceOperator(BaseOperator):
    """Base of the operators of upkeep.

    Args:
        detection_conn_id: the connection to the registry's database.
    """

    switch: ClassVar[str]
    template_fields: Sequence[str] = ("detection_conn_id",)
    ui_color = "#e3eede"

    def __init__(
        self, *, detection_conn_id: str = "detection_default", **kwargs: Any
    ) -> None:  # Any: Airflow's
        super().__init__(**kwargs)
        self.detection_conn_id = detection_conn_id

    def execute(self, context: Context) -> Any:  # Any: what each returns
        """Do it; skip if `[detection]` has the switch off. The registry's flag has no say in it."""
        if not conf.getboolean(SECTION, self.switch, fallback=True):
            raise AirflowSkipException(f"[{SECTION}] {self.switch} is off")
        return self._upkeep()

    def _upkeep(self) -> Any:  # Any: what each returns
        raise NotImplementedError


class _PartitionsOperator(MaintenanceOperator):
    def _run(self, phase_name: str) -> dict[str, int]:
        from airflow_detection.operators.partition_files import partition_files
        from airflow_detection.store.partitions.plan import Phase
        from airflow_detection.store.partitions.upkeep import apply

        with terminal_errors(), open_database(self.detection_conn_id, settings_of()) as db:
            report = apply(db, Phase(phase_name), now=datetime.now(UTC), files=partition_files())
        return self._outcomes(report)

    def _outcomes(self, report: UpkeepReport) -> dict[str, int]:
        for line in report.lines():
            self.log.info("%s", line)
        if report.is_skipped:
            raise AirflowSkipException("another run holds the lock: this one did nothing")
        if not report.is_success:
            raise AirflowException("; ".join(map(str, (*report.failed, *report.alarms))))
        outcomes = [r.outcome for r in report.results]
        return {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}


class EnsurePartitionsOperator(_PartitionsOperator):
    """Make the table partitions of this month and of the months ahead; fail if too few lie ahead."""

    switch = "ensure_partitions"

    def _upkeep(self) -> dict[str, int]:
        """Make them; returns counts of outcomes."""
        return self._run("ensure")


class ApplyRetentionOperator(_PartitionsOperator):
    """Detach what is past retention; after the grace period export it, by policy, and drop it."""

    switch = "apply_retention"

    def _upkeep(self) -> dict[str, int]:
        """Retire them, and kept input rows of cycles that did not close; returns counts of outcomes."""
        from airflow_detection.cycle.shared_inputs import remove_old_inputs

        remove_old_inputs(settings_of())
        return self._run("retain")


class AggregateStatsOperator(MaintenanceOperator):
    """Count the events of the last days anew, for each hour and category.

    Args:
        hours: how many full hours back; what came late is counted in its hour.
    """

    switch = "aggregate_stats_hourly"

    def __init__(self, *, hours: int = 72, **kwargs: Any) -> None:  # Any: BaseOperator's own
        super().__init__(**kwargs)
        self.hours = hours

    def _upkeep(self) -> int:
        """Count them; returns how many rows of counts there are in these hours."""
        from airflow_detection.store.hourly_stats import aggregate_hourly

        with terminal_errors(), open_database(self.detection_conn_id, settings_of()) as db:
            return aggregate_hourly(db, now=datetime.now(UTC), hours=self.hours)
