"""A CSV file of labels, loaded as a stream; malformed rows are told by line, and the others are loaded."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from airflow_detection.errors import InputFileError, hint
from airflow_detection.store.database import Database
from airflow_detection.store.labels import MAX_ENTITY_CHARS, TABLE, Label, add_labels
from airflow_detection.store.registry import fetch

COLUMNS = ("entity_id", "valid_from", "valid_to", "is_positive", "cycle_id", "model_id", "source", "note")
REQUIRED = ("entity_id", "valid_from", "is_positive")
MAX_SHOWN = 100
"""Malformed rows that a report names; the others are counted."""
_TRUTHS = {
    "true": True,
    "t": True,
    "yes": True,
    "1": True,
    "false": False,
    "f": False,
    "no": False,
    "0": False,
}
_TRUTHS_OR_NONE: Mapping[str, bool | None] = {**_TRUTHS, "": None}
_YEARS = range(1900, 3000)


@dataclass(slots=True, kw_only=True)
class LabelReport:
    """Result of a load: `rows_read` counts malformed rows too, `rows_added` only those that are new.

    `malformed` names the first 100 as (line from 1, reason).
    """

    rows_read: int = 0
    rows_added: int = 0
    malformed: list[tuple[int, str]] = field(default_factory=list)
    malformed_count: int = 0

    def __str__(self) -> str:
        known = self.rows_read - self.malformed_count - self.rows_added
        return f"{self.rows_read:,} rows read, {self.rows_added:,} new, {known:,} known already" + (
            f", {self.malformed_count:,} malformed" if self.malformed_count else ""
        )


class _MalformedRow(ValueError):
    """A row is not a label; its text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Defaults:
    """What a row may leave out, and what is registered: the cycles, and the cycle of each model."""

    cycle_id: str | None
    source: str | None
    cycles: Set[str]
    cycle_of: Mapping[str, str]


def load_labels(
    db: Database,
    path: Path,
    *,
    cycle_id: str | None = None,
    source: str | None = None,
    actor: str | None = None,
) -> LabelReport:
    """Load a CSV file with a header in one transaction; a second load adds nothing.

    Its columns: `entity_id`, `valid_from` and `is_positive` (empty: withdrawn) are required; `valid_to`,
    `cycle_id`, `model_id`, `source` and `note` may be missing or empty.

    Args:
        cycle_id: the cycle of a row that names neither a cycle nor a model.
        source: the source of a row that names none.

    Raises:
        InputFileError: the file is missing, is no such file, or has no row; nothing was loaded.
    """
    registered = fetch(db, TABLE, "models")
    cycles = {row["cycle_id"] for row in registered}
    if cycle_id is not None and cycle_id not in cycles:
        raise InputFileError(f"cycle {cycle_id!r} is not registered{hint(cycle_id, cycles)}")
    cycle_of = {row["model_id"]: row["cycle_id"] for row in registered if row["model_id"]}
    report = LabelReport()
    defaults = _Defaults(cycle_id=cycle_id, source=source, cycles=cycles, cycle_of=cycle_of)
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            report.rows_added = add_labels(db, _labels(file, path, defaults, report), actor=actor)
    except OSError as error:
        raise InputFileError(f"{path}: {error.strerror or error}") from error
    return report


def _labels(file: IO[str], path: Path, defaults: _Defaults, report: LabelReport) -> Iterator[Label]:
    rows = csv.reader(file, strict=True)
    header = _header(rows, path)
    while True:
        try:
            row = next(rows)
            if not row:
                continue
            report.rows_read += 1
            yield _label(header, row, defaults)
        except StopIteration:
            break
        except (csv.Error, _MalformedRow) as error:
            report.rows_read += isinstance(error, csv.Error)
            report.malformed_count += 1
            if len(report.malformed) < MAX_SHOWN:
                report.malformed.append((rows.line_num, str(error)))
    if not report.rows_read:
        raise InputFileError(f"{path}: has no rows")


def _header(rows: Iterator[list[str]], path: Path) -> list[str]:
    try:
        header = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise InputFileError(f"{path}: line 1: {error}") from error
    for name in header:
        if name not in COLUMNS:
            raise InputFileError(f"{path}: line 1: unknown column {name!r}{hint(name, COLUMNS)}")
    if missing := [name for name in REQUIRED if name not in header]:
        raise InputFileError(f"{path}: line 1: column {missing[0]!r} is missing")
    if len(set(header)) < len(header):
        raise InputFileError(f"{path}: line 1: a column stands there twice")
    return header


def _label(header: list[str], row: list[str], defaults: _Defaults) -> Label:
    if len(row) != len(header):
        raise _MalformedRow(f"has {len(row)} fields: must be {len(header)}")
    values = dict.fromkeys(COLUMNS, "") | dict(zip(header, row, strict=True))
    for name, value in values.items():
        if "\0" in value or (not value.isprintable() and any("\ud800" <= c <= "\udfff" for c in value)):
            raise _MalformedRow(f"{name} is not UTF-8 text without NUL")
    entity_id = values["entity_id"]
    if not 1 <= len(entity_id) <= MAX_ENTITY_CHARS:
        raise _MalformedRow(f"entity_id has {len(entity_id)} characters: must be 1 to {MAX_ENTITY_CHARS}")
    cycle_id, model_id = _place(values, defaults)
    valid_from = _instant("valid_from", values["valid_from"])
    valid_to = _instant("valid_to", values["valid_to"]) if values["valid_to"] else None
    if valid_to is not None and valid_to <= valid_from:
        raise _MalformedRow(f"valid_to is {values['valid_to']!r}: must be after valid_from")
    truth = values["is_positive"].strip().lower()
    if truth not in _TRUTHS_OR_NONE:
        raise _MalformedRow(f"is_positive is {_shown(truth)}: must be true, false, or empty to withdraw")
    source = values["source"] or defaults.source
    if not source:
        raise _MalformedRow("source is missing")
    return Label(
        cycle_id=cycle_id,
        model_id=model_id,
        entity_id=entity_id,
        valid_from=valid_from,
        valid_to=valid_to,
        is_positive=_TRUTHS_OR_NONE[truth],
        source=source,
        note=values["note"],
    )


def _place(values: Mapping[str, str], defaults: _Defaults) -> tuple[str, str | None]:
    """Return the cycle and the model of a row; the cycle of a model need not be named."""
    model_id = values["model_id"] or None
    own = defaults.cycle_of.get(model_id or "")
    if model_id is not None and own is None:
        raise _MalformedRow(f"model {_shown(model_id)} is not registered")
    cycle_id = values["cycle_id"] or own or defaults.cycle_id
    if not cycle_id:
        raise _MalformedRow("names neither a cycle nor a model")
    if cycle_id not in defaults.cycles:
        raise _MalformedRow(f"cycle {_shown(cycle_id)} is not registered")
    if own is not None and own != cycle_id:
        raise _MalformedRow(f"model {_shown(model_id or '')} belongs to cycle {_shown(own)}")
    return cycle_id, model_id


def _instant(name: str, text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise _MalformedRow(
            f"{name} is {_shown(text)}: must be an instant such as 2026-01-31T00:00:00Z"
        ) from None
    if instant.tzinfo is None:
        raise _MalformedRow(
            f"{name} is {_shown(text)}: has no time zone; write {instant.isoformat()}Z for UTC"
        )
    if instant.year not in _YEARS:
        raise _MalformedRow(f"{name} is {_shown(text)}: must lie between the years 1900 and 2999")
    return instant.astimezone(UTC)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
