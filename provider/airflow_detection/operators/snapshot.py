"""The operator that takes the hourly snapshot report, and notifies of a turn for the worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow.configuration import conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk.observability import stats

from airflow_detection.domain.settings import SECTION
from airflow_detection.domain.specs import Role
from airflow_detection.operators.context import cycle_started_at, open_database, settings_of, terminal_errors
from airflow_detection.operators.maintenance import MaintenanceOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_detection.snapshot.report import Report
    from airflow_detection.store.database import Database
    from airflow_detection.store.snapshots import StoredReport

OnTrouble = Literal["ignore", "warn", "fail"]
Notifier = Callable[[Any], None]  # Any: Airflow's context; its own notifiers are called with it


class SnapshotReportOperator(MaintenanceOperator):
    """Take and store the report of the hour before the run's logical date, unless that hour has one.

    Args:
        notifiers: Airflow's notifiers, or functions of a context. Each is called once for a report in which
            a version turned to a bad verdict; `detection_changes` (list of text), `detection_headline` and
            `detection_report` (JSON) are in the context.
        on_trouble: what to do where a champion's last verdict in the stored report is bad, each time: `fail`
            the task, so that Airflow's own alerting hears of it, `warn` in the log, or `ignore` it.
    """

    switch = "snapshot_report"

    def __init__(
        self,
        *,
        notifiers: Sequence[Notifier] = (),
        on_trouble: OnTrouble = "ignore",
        **kwargs: Any,  # Any: BaseOperator's
    ) -> None:
        super().__init__(**kwargs)
        if on_trouble not in get_args(OnTrouble):
            raise ValueError(f"on_trouble is {on_trouble!r}: must be one of {', '.join(get_args(OnTrouble))}")
        self.notifiers = tuple(notifiers)
        self.on_trouble = on_trouble

    def execute(self, context: Context) -> dict[str, Any]:  # Any: a small JSON object
        """Report; returns the id, the status and the changes of the report that is stored.

        Raises:
            AirflowFailException: a champion has a bad verdict, and `on_trouble` is `fail`.
        """
        if not conf.getboolean(SECTION, self.switch, fallback=True):
            raise AirflowSkipException(f"[{SECTION}] {self.switch} is off")
        from airflow_detection.operators.report_setup import process_facts_of, sections_of
        from airflow_detection.snapshot.collector import hourly

        settings = settings_of()
        try:
            with terminal_errors(), open_database(self.detection_conn_id, settings) as db:
                stored, is_new = hourly(
                    db,
                    sections_of(settings),
                    at=cycle_started_at(context, self.log),
                    process_facts=process_facts_of(settings),
                )
                return self._notify(db, context, stored, is_new=is_new)
        except Exception:
            stats.incr("detection.snapshot.failed")
            raise

    def _notify(
        self, db: Database, context: Context, stored: StoredReport, *, is_new: bool
    ) -> dict[str, Any]:  # Any: as above
        from airflow_detection.snapshot.changes import new_bad_verdicts
        from airflow_detection.snapshot.report import from_json
        from airflow_detection.store.snapshots import is_notification_due, note_notified, reports_before

        report = from_json(stored.report)
        _measure(report)  # whoever took it: that there is one, and what it says, is measured here
        self.log.info("report %s: %s", "taken" if is_new else "was there", report.headline)
        for span in report.missed:
            self.log.warning("no report was taken from %s to %s", span.start, span.end)
        changes = new_bad_verdicts(report, None, reports_before(db, stored.start))
        with db.conn.transaction():
            if is_notification_due(db, stored.snapshot_id):
                for line in changes:
                    self.log.warning("%s", line)
                if changes:
                    notification: Any = {  # Any: Airflow's context with our own entries
                        **context, "detection_changes": changes, "detection_headline": report.headline,
                        "detection_report": dict(stored.report),
                    }  # fmt: skip
                    for notify in self.notifiers:
                        notify(notification)
                note_notified(db, stored.snapshot_id)
        self._tell_of_trouble(report)
        return {"snapshot_id": stored.snapshot_id, "status": report.status.value, "changes": changes}

    def _tell_of_trouble(self, report: Report) -> None:
        from airflow_detection.snapshot.verdicts.kinds import VerdictKind

        bad = [s for s in report.standings if VerdictKind(s.last).is_bad and s.role == Role.PRIMARY]
        if not bad or self.on_trouble == "ignore":
            return
        said = f"champions in trouble: {', '.join(f'{s.label} {s.last}' for s in bad)}"
        if self.on_trouble == "fail":
            raise AirflowFailException(said)
        self.log.warning("%s", said)


def _measure(report: Report) -> None:
    stats.incr("detection.snapshot.reports")
    stats.gauge("detection.snapshot.missed_hours", sum(m.hours for m in report.missed))
    stats.gauge("detection.snapshot.bad_versions", sum(s.is_bad for s in report.standings))
    stats.gauge("detection.snapshot.not_computed", sum(s.status == "not computed" for s in report.sections))
    stats.timing("detection.snapshot.duration", report.took_ms)
