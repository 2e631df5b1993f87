"""The operators of the Dag `detection_replay`: past cycles, day by day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_detection.operators.context import (
    instant_of,
    open_artifact,
    open_database,
    param,
    reader_conninfo_of,
    settings_of,
    terminal_errors,
)
from airflow_detection.operators.cycle import raise_failed
from airflow_detection.operators.telemetry import emit, log_context

if TYPE_CHECKING:
    from airflow.sdk import Context

Part = dict[str, str]
"""A part of the time that is replayed: `start` and `end`, ISO 8601, UTC."""

MAX_PARTS = 1000
"""Airflow maps a task over 1,024 values unless it is told otherwise."""


def _range_of(context: Context) -> tuple[datetime, datetime]:
    with terminal_errors():
        start, end = (instant_of(name, param(context, name)) for name in ("start", "end"))
    if start >= end:
        raise AirflowFailException(f"start {start.isoformat()} must be before end {end.isoformat()}")
    return start, end


class ReplayPartsOperator(BaseOperator):
    """Cut the time between the params `start` and `end` into days, or longer parts where there are too many.

    Args:
        detection_conn_id: the connection to the registry's database.
    """

    template_fields: Sequence[str] = ()
    ui_color = "#efe3f5"

    def __init__(
        self, *, detection_conn_id: str = "detection_default", **kwargs: Any
    ) -> None:  # Any: BaseOperator's own
        super().__init__(**kwargs)
        self.detection_conn_id = detection_conn_id

    def execute(self, context: Context) -> list[Part]:
        """Return the parts in which a cycle ran; fail if there is none."""
        from airflow_detection.cycle.replay import cycles_to_replay

        start, end = _range_of(context)
        cycle_id, labels = str(param(context, "cycle")), [str(v) for v in param(context, "versions") or ()]
        with terminal_errors(), open_database(self.detection_conn_id, settings_of()) as db:
            cycles, count = cycles_to_replay(db, cycle_id, labels, start=start, end=end, again=True)
        if not count:
            raise AirflowFailException(
                f"no cycle of {cycle_id!r} ran from {start.isoformat()} to {end.isoformat()}: a replay reads"
                " what its champions have stored"
            )
        step = max(timedelta(days=1), (end - start) / MAX_PARTS)
        starts = dict.fromkeys(start + (at - start) // step * step for at in cycles)
        return [{"start": at.isoformat(), "end": min(at + step, end).isoformat()} for at in starts]


class ReplayOperator(BaseOperator):
    """Replay the versions of the param `versions` in the cycles of a part of the time.

    Cycles that have their replay are left out, unless the param `again` says otherwise and it is the first
    try: a task that is tried again goes on where it was ended.

    Args:
        part: what `ReplayPartsOperator` gave.
        detection_conn_id: the connection to the registry's database.
    """

    template_fields: Sequence[str] = ("part",)
    ui_color = "#efe3f5"

    def __init__(
        self, *, part: Part, detection_conn_id: str = "detection_default", **kwargs: Any
    ) -> None:  # Any: BaseOperator's own
        super().__init__(**kwargs)
        self.part = part
        self.detection_conn_id = detection_conn_id

    def execute(self, context: Context) -> dict[str, int]:
        """Replay them; returns counts of outcomes."""
        from airflow_detection.cycle.replay import cycles_to_replay, replay
        from airflow_detection.domain.specs import Outcome

        cycle_id, labels = str(param(context, "cycle")), [str(v) for v in param(context, "versions") or ()]
        again = bool(param(context, "again")) and context["ti"].try_number <= 1
        settings = settings_of()
        with terminal_errors(), open_database(self.detection_conn_id, settings) as db:
            start, end = (instant_of(name, self.part[name]) for name in ("start", "end"))
            cycles, count = cycles_to_replay(db, cycle_id, labels, start=start, end=end, again=again)
            self.log.info("%d of %d cycles are to be replayed", len(cycles), count)
            if not cycles:
                raise AirflowSkipException(f"each of {count} cycles has its replay already")
            reports = []
            for replayed in replay(
                db, settings, cycle_id, labels, cycles,
                log_context=log_context, reader_conninfo=reader_conninfo_of(settings), opener=open_artifact,
            ):  # fmt: skip
                reports.append(replayed.report)
                self.log.info(
                    "%s at %s: %s", replayed.report.version.label, replayed.at, replayed.report.outcome.value
                )
        emit(cycle_id, reports)
        raise_failed([r for r in reports if r.outcome is Outcome.FAILED])
        if skipped := [r for r in reports if r.outcome is Outcome.SKIPPED]:
            raise AirflowFailException(
                f"{len(skipped)} of {len(reports)} did not run, the last: {skipped[-1].error}"
            )
        return {outcome.value.lower(): sum(r.outcome is outcome for r in reports) for outcome in Outcome}
