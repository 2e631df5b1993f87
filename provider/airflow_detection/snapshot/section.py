"""A section of the report: a name, a query and a rendering of what it gave."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any, ClassVar

from psycopg.rows import dict_row

from airflow_detection.engine import flags
from airflow_detection.snapshot.report import Fact, Series, Standing, Status, Table
from airflow_detection.snapshot.verdicts.expected import OPEN_CYCLE_GRACE
from airflow_detection.store.connection import Connection, in_ms
from airflow_detection.store.database import Database

Row = dict[str, Any]  # Any: a row holds what its statement selects
HOURLY, DIAGNOSTIC = "hourly", "diagnostic"


class SectionTimeout(Exception):
    """A section has used up its time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(limit_s)
        self.limit_s = limit_s

    def __str__(self) -> str:
        return f"it took longer than {self.limit_s:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFacts:
    """Facts of the process that takes the report, which the database does not have.

    `plan_read_at` is when the last known good plan was written, None where there is no such file.
    `use_model_registry` is whether cycles run the registered models; None takes the flag of this process.
    """

    code_version: str = ""
    flags: Mapping[str, str] = field(default_factory=dict)
    plan_read_at: datetime | None = None
    plan_ttl_s: float | None = None
    thresholds: Any = None  # Any: Thresholds of the verdicts; None takes their defaults
    use_model_registry: bool | None = None


@dataclass(slots=True, kw_only=True)
class Scope:
    """Access of a section to one read-only snapshot of the database, and the period of the report.

    The report covers cycles in [start, end), UTC. `day` is where the history that it is compared with begins:
    a day before `start`. `memory` is shared by the sections of one report.
    """

    db: Database
    start: datetime
    end: datetime
    taken_at: datetime
    kind: str = HOURLY
    process_facts: ProcessFacts = field(default_factory=ProcessFacts)
    limit_s: float = 10.0
    memory: dict[str, Any] = field(default_factory=dict)  # Any: values that a section leaves for another
    began: float = field(default_factory=perf_counter)

    @property
    def conn(self) -> Connection:
        """The connection, for statements of a section's own."""
        return self.db.conn

    @property
    def day(self) -> datetime:
        """Start of the trailing day."""
        return self.start - timedelta(days=1)

    @property
    def is_diagnostic(self) -> bool:
        """Tell whether this is the longer report."""
        return self.kind == DIAGNOSTIC

    @property
    def use_model_registry(self) -> bool:
        """Tell whether cycles run the registered models: the process facts, or else the flag of this process.

        Raises:
            ConfigurationError: the flag has a value that it cannot have.
        """
        is_used = self.process_facts.use_model_registry
        return flags.use_model_registry() if is_used is None else is_used

    def rows(self, name: str, file: str = "snapshot_sections", **params: object) -> list[Row]:
        """Return the rows of a named statement; it gets `start`, `end`, `day`, `taken_at` besides `params`.

        Raises:
            SectionTimeout: the section has used up its time.
            psycopg.Error: the statement failed, or was ended when the section's time was up.
        """
        left_s = self.limit_s - (perf_counter() - self.began)
        if left_s <= 0:
            raise SectionTimeout(self.limit_s)
        self.limit_statements(left_s)
        period = {"start": self.start, "end": self.end, "day": self.day, "taken_at": self.taken_at}
        query = self.db.queries(file)[name]
        with self.db.conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, period | params).fetchall()

    def ended_since(self) -> list[Row]:
        """Return the cycles from before the period that were open at the report before and are over now."""
        if "ended_since" not in self.memory:
            self.memory["ended_since"] = self.rows("ended_since", patience=OPEN_CYCLE_GRACE)
        rows: list[Row] = self.memory["ended_since"]
        return rows

    def limit_statements(self, limit_s: float) -> None:
        """Limit every statement of this transaction to `limit_s` seconds."""
        limit = self.db.queries("detection_snapshots")["limit_statements"]
        self.db.conn.execute(limit, {"limit_ms": in_ms(limit_s)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Results of a section's rendering; `standings` only from the section that judges versions."""

    status: Status = Status.OK
    summary: str = ""
    facts: tuple[Fact, ...] = ()
    tables: tuple[Table, ...] = ()
    series: tuple[Series, ...] = ()
    standings: tuple[Standing, ...] = ()


class BaseSection(ABC):
    """Derive from this, name it, and list it under `[detection] report_sections`.

    `query` reads, in a savepoint of the report's one read-only transaction and within `scope.limit_s`;
    `render` makes the findings of it, without the database. An error in either costs this section alone.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    pack: ClassVar[str | None] = None
    """The pack whose tables it reads: without them the report has no such section."""
    may_use_full_budget: ClassVar[bool] = False
    """True where the section matters more than the others: it may use up the time of the whole report."""

    @abstractmethod
    def query(self, scope: Scope) -> Any:  # Any: whatever its own rendering takes
        """Read the data of the section."""

    @abstractmethod
    def render(self, result: Any, scope: Scope) -> Findings:  # Any: the result of `query`
        """Return the result of `query` as facts, tables and series."""
