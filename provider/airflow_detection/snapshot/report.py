"""The snapshot report: one frozen object of plain data, and its JSON.

Sections hold facts, tables and series as values. The renderings decide how these look; they are given the
stored report and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

FORMAT_VERSION = 1
"""The version of the JSON that this package writes."""

Value = str | int | float | bool | None
Cell = Value | tuple[Value, ...]
Json = dict[str, Any]  # Any: a JSON object


class Status(StrEnum):
    """Attention that a section, a row or a fact asks of its reader."""

    OK = "ok"
    ATTENTION = "attention"
    BAD = "bad"
    NOT_COMPUTED = "not computed"


_RANKS = (Status.BAD, Status.NOT_COMPUTED, Status.ATTENTION, Status.OK)


def worst(statuses: Sequence[Status | None]) -> Status:
    """Return the gravest of them; OK of none. NOT_COMPUTED is graver than ATTENTION."""
    return min((s for s in statuses if s), key=_RANKS.index, default=Status.OK)


class Kind(StrEnum):
    """Kind of a value, by which each rendering writes it."""

    TEXT = "text"
    CODE = "code"  # an id, a digest
    COUNT = "count"
    SHARE = "share"  # 0 to 1
    NUMBER = "number"
    SCORE = "score"
    MS = "ms"
    SECONDS = "seconds"  # a length of time
    INSTANT = "instant"  # ISO 8601, UTC
    RATIO = "ratio"  # now / before
    VERDICT = "verdict"
    STATUS = "status"
    SPARK = "spark"  # numbers in order of time, null where there is none
    STRIP = "strip"  # verdicts in order of time


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One figure with its label."""

    label: str
    value: Value
    kind: Kind = Kind.COUNT
    status: Status | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table; of `weight` 1 is shown always, 2 and 3 where there is room."""

    label: str
    kind: Kind = Kind.TEXT
    weight: int = 1
    help: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of plain values; `marks` has the status of each row, `left_out` is how many rows are missing."""

    title: str = ""
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...] = ()
    marks: tuple[Status | None, ...] = ()
    left_out: int = 0
    empty: str = "nothing"
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"a row of table {self.title!r} has {len(row)} cells: must be {len(self.columns)}"
                )
        if self.marks and len(self.marks) != len(self.rows):
            raise ValueError(f"table {self.title!r} has {len(self.marks)} marks: must be {len(self.rows)}")

    def within(self, max_rows: int) -> Table:
        """Return the table with at most `max_rows` rows, in their order; the gravest are kept first."""
        if len(self.rows) <= max_rows:
            return self
        marks = self.marks or (None,) * len(self.rows)
        ranks = [_RANKS.index(mark or Status.OK) for mark in marks]
        kept = sorted(sorted(range(len(marks)), key=lambda n: ranks[n])[:max_rows])
        return replace(
            self,
            rows=tuple(self.rows[n] for n in kept),
            marks=tuple(marks[n] for n in kept),
            left_out=self.left_out + len(self.rows) - max_rows,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a plot: a value, or null, for each instant; `hue` 1 to 6 is its colour, 0 takes turns."""

    label: str
    values: tuple[float | int | None, ...]
    hue: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Lines over the same instants (ISO 8601, UTC, ascending), or over numbers of what `counts` names."""

    title: str
    kind: Kind
    at: tuple[str, ...]
    lines: tuple[Line, ...]
    is_bars: bool = False
    note: str = ""
    counts: str = ""
    is_logarithmic: bool = False

    def __post_init__(self) -> None:
        for line in self.lines:
            if len(line.values) != len(self.at):
                raise ValueError(
                    f"line {line.label!r} of series {self.title!r} has {len(line.values)} values:"
                    f" must be {len(self.at)}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Result of one section: `summary` is a sentence, `why` the reason why it could not be computed."""

    name: str
    title: str
    status: Status
    summary: str = ""
    why: str = ""
    facts: tuple[Fact, ...] = ()
    tables: tuple[Table, ...] = ()
    series: tuple[Series, ...] = ()
    took_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Verdicts of one version in the period: its worst, and the one of its last cycle.

    `is_bad` is of the worst.
    """

    model_id: str
    version: str
    role: str
    worst: str
    last: str
    is_bad: bool

    @property
    def label(self) -> str:
        """`model@version`."""
        return f"{self.model_id}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Hours, [start, end) in ISO 8601 UTC, for which a report is missing."""

    start: str
    end: str
    hours: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole report. Instants are ISO 8601 in UTC; it covers cycles in [start, end)."""

    kind: str
    taken_at: str
    start: str
    end: str
    schema: str
    code_version: str
    headline: str
    sections: tuple[Section, ...]
    standings: tuple[Standing, ...] = ()
    missed: tuple[Missed, ...] = ()
    took_ms: float = 0.0
    format_version: int = FORMAT_VERSION

    @property
    def status(self) -> Status:
        """The gravest of its sections; ATTENTION at least where a report before it is missing."""
        return worst([*(s.status for s in self.sections), Status.ATTENTION if self.missed else None])

    def section(self, name: str) -> Section:
        """Return the section of this name; KeyError if there is none."""
        return next((s for s in self.sections if s.name == name), None) or _no_section(name)

    def to_json(self) -> Json:
        """Return the report as it is stored: JSON values alone, text that Postgres can store."""
        stored: Json = _to_json(self)
        return stored


def _no_section(name: str) -> Section:
    raise KeyError(name)


def _to_json(value: Any) -> Any:  # Any: a value of the report, then a JSON value
    if is_dataclass(value):
        return {f.name: _to_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple | list):
        return [_to_json(item) for item in value]
    if isinstance(value, str):
        return str(value).replace("\0", "\ufffd").encode(errors="replace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"a report cannot hold a {type(value).__name__}: {value!r}")


class UnknownFormat(Exception):
    """A stored report has a format that this version of the package cannot read."""

    def __init__(self, format_version: object) -> None:
        super().__init__(format_version)
        self.format_version = format_version

    def __str__(self) -> str:
        readable = ", ".join(map(str, READERS))
        return (
            f"the report has format {self.format_version!r}, and this version of the package reads "
            f"{readable}: render it with the version that wrote it"
        )


def from_json(stored: Mapping[str, Any]) -> Report:  # Any: JSON values
    """Return the report of a stored JSON object, of this format or an older one.

    Raises:
        UnknownFormat: the report has a format that this version of the package cannot read.
    """
    reader = READERS.get(stored.get("format_version"))  # type: ignore[arg-type]  # a missing key has no reader
    if reader is None:
        raise UnknownFormat(stored.get("format_version"))
    return reader(stored)


def _read_1(stored: Mapping[str, Any]) -> Report:
    return Report(
        **_fields(Report, stored, "sections", "standings", "missed"),
        sections=tuple(_section(s) for s in stored["sections"]),
        standings=tuple(Standing(**_fields(Standing, s)) for s in stored.get("standings", ())),
        missed=tuple(Missed(**_fields(Missed, m)) for m in stored.get("missed", ())),
    )


READERS = {1: _read_1}


def _section(stored: Mapping[str, Any]) -> Section:
    return Section(
        **_fields(Section, stored, "facts", "tables", "series", "status"),
        status=Status(stored["status"]),
        facts=tuple(
            Fact(**_fields(Fact, f, "kind", "status"), kind=Kind(f["kind"]), status=_status(f.get("status")))
            for f in stored.get("facts", ())
        ),
        tables=tuple(_table(t) for t in stored.get("tables", ())),
        series=tuple(
            Series(
                **_fields(Series, s, "kind", "at", "lines"),
                kind=Kind(s["kind"]),
                at=tuple(s["at"]),
                lines=tuple(
                    Line(**_fields(Line, line, "values"), values=tuple(line["values"])) for line in s["lines"]
                ),
            )
            for s in stored.get("series", ())
        ),
    )


def _table(stored: Mapping[str, Any]) -> Table:
    return Table(
        **_fields(Table, stored, "columns", "rows", "marks"),
        columns=tuple(Column(**_fields(Column, c, "kind"), kind=Kind(c["kind"])) for c in stored["columns"]),
        rows=tuple(tuple(tuple(c) if isinstance(c, list) else c for c in row) for row in stored["rows"]),
        marks=tuple(_status(m) for m in stored.get("marks", ())),
    )


def _status(value: str | None) -> Status | None:
    return None if value is None else Status(value)


def _fields(cls: type, stored: Mapping[str, Any], *others: str) -> Json:
    """Return the entries that are fields of `cls`, except `others`, which are read on their own."""
    names = {f.name for f in fields(cls)} - set(others)
    return {name: value for name, value in stored.items() if name in names}
