"""Lineage of the versions that a task runs, told where OpenLineage's provider is installed and asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_detection.operators.context import connect, open_database, settings_of

if TYPE_CHECKING:
    from airflow_detection.domain.reports import RunReport
    from airflow_detection.domain.settings import Settings
    from airflow_detection.domain.specs import Mode
    from airflow_detection.operators.facets import Lineage
    from airflow_detection.store.database import Database


@dataclass(frozen=True, slots=True)
class TaskRun:
    """What a task ran: versions of one cycle, the model's own when None, in the mode of its plan."""

    cycle_id: str | None
    started_at: datetime
    mode: Mode
    reports: Sequence[RunReport]


class WithLineage:
    """Part of an operator that may run versions: what they read and wrote, as OpenLineage has it.

    The provider asks in a process of its own after the task; what goes wrong here is a warning in its log.
    """

    detection_conn_id: str
    ran: TaskRun | None = None

    def get_openlineage_facets_on_complete(self, task_instance: object) -> Lineage:
        """Return what was read and written, and which versions did; nothing of a task that ran none."""
        from airflow_detection.cycle import planning
        from airflow_detection.cycle.input_query import input_tables
        from airflow_detection.operators import facets
        from airflow_detection.store import registry

        del task_instance
        if (ran := self.ran) is None or not ran.reports:
            return facets.Lineage()
        settings = settings_of()
        with open_database(self.detection_conn_id, settings) as db:
            cycle_id = ran.cycle_id or registry.cycle_of(db, ran.reports[0].version.model_id)
            opened = planning.planned_cycle(db, cycle_id, ran.started_at, mode=ran.mode)
            with _reading(self.detection_conn_id, settings) as reading:
                tables = input_tables(reading, opened)
            return facets.lineage(db, opened, ran.reports, tables)


class WithOutputs(WithLineage):
    """Part of an operator that always runs versions."""

    def get_openlineage_facets_on_start(self) -> Lineage:
        """Return the table of outputs; what will be read depends on the cycle, which is not told here."""
        from airflow_detection.operators import facets

        with open_database(self.detection_conn_id, settings_of()) as db:
            return facets.Lineage(outputs=[facets.outputs_table(db)])


@contextmanager
def _reading(conn_id: str, settings: Settings) -> Iterator[Database]:
    """The database as models read it: through their connection, and as their role."""
    from airflow_detection.store.database import Database
    from airflow_detection.store.session import limit_session

    with connect(settings.reader_conn_id or conn_id, read_only=True) as conn:
        db = Database(conn, settings.schema)
        limit_session(db, role=settings.reader_role)
        yield db
