"""Load a positions file into `ais_positions`: all of it or none, and never twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from airflow_detection.errors import InputFileError
from airflow_detection.maritime.ais.file import Layout, MalformedRowError, Position, numbered_lines, open_text
from airflow_detection.store.queries import load_queries

MAX_SHOWN = 100
"""Malformed rows that a report names; the others are counted."""

SIMULATED_NAME = "SIM "
"""Vessels of the simulator have names that start so."""

_ROWS_PER_WRITE = 1_000
_ROWS_PER_REPORT = 50_000
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """The result of a load: `rows_read` counts malformed rows too, `rows_loaded` only those that are new.

    `malformed` names the first 100 as (line number from 1, reason). Instants are UTC. A file that is loaded
    already is not read: `malformed_count` is then the recorded one. `early_count` of the malformed rows lie
    after now: the file is read again when it is loaded again.
    """

    rows_read: int = 0
    rows_loaded: int = 0
    duplicates: int = 0
    malformed: tuple[tuple[int, str], ...] = ()
    malformed_count: int = 0
    early_count: int = 0
    is_already_loaded: bool = False
    is_simulated: bool = False
    first_observed_at: datetime | None = None
    last_observed_at: datetime | None = None

    def __str__(self) -> str:
        if self.is_already_loaded:
            return "loaded already, nothing added"
        text = f"{self.rows_read:,} rows read, {self.rows_loaded:,} new, {self.duplicates:,} known already"
        if not self.malformed_count:
            return text
        line, reason = self.malformed[0]
        return f"{text}, {self.malformed_count:,} malformed (first: line {line} {reason})"


def load_file(
    conn: psycopg.Connection[Any],  # Any: the row factory is the caller's; rows are read as tuples here
    path: Path,
    *,
    schema: str = "detection",
    report: Callable[[int], None] | None = None,
    now: datetime | None = None,
) -> LoadReport:
    """Load one MarineCadastre file (CSV; plain, gzip, Zstandard or zip) in one transaction.

    Args:
        conn: a connection to the registry's database; a transaction that is open on it stays open.
        path: the file; its header may be in either style of the series.
        schema: where `ais_positions` is.
        report: called with the rows read so far, now and then and at the end.
        now: rows that lie after it are malformed; by default this machine's clock.
    Raises:
        InputFileError: the file is missing, damaged, not a positions file, or holds no position; nothing
            was loaded.
    """
    queries = load_queries("ais_positions", schema)
    digest = _digest(path)
    with conn.transaction(), conn.cursor(row_factory=psycopg.rows.tuple_row) as cur:
        cur.execute(queries["register_file"], {"sha256": digest, "name": path.name})
        if cur.fetchone() is None:
            cur.execute(queries["recorded_file"], {"sha256": digest})
            recorded = cur.fetchone()
            return LoadReport(is_already_loaded=True, malformed_count=recorded[1] if recorded else 0)
        count = _copy_in(cur, queries, path, now or datetime.now(UTC), report)
        loaded = _report(path, count)
        cur.execute(queries["incoming_interval"])
        first, last = cur.fetchone() or (None, None)
        cur.execute(queries["insert_new"])
        rows_loaded = cur.rowcount
        loaded = replace(
            loaded,
            rows_loaded=rows_loaded,
            duplicates=count.read - count.malformed - rows_loaded,
            first_observed_at=first,
            last_observed_at=last,
        )
        recorded_values = {
            "sha256": digest,
            "row_count": loaded.rows_read,
            "malformed_count": loaded.malformed_count,
            "is_simulated": loaded.is_simulated,
        }
        cur.execute(queries["forget_file" if count.early else "complete_file"], recorded_values)
    return loaded


@dataclass(slots=True)
class _Count:
    """Counts so far of a file that is being read."""

    read: int = 0
    malformed: int = 0
    early: int = 0
    shown: list[tuple[int, str]] = field(default_factory=list)
    is_simulated: bool = False


def _copy_in(
    cur: psycopg.Cursor[tuple[Any, ...]],  # Any: a row of any statement
    queries: Mapping[str, sql.Composed],
    path: Path,
    now: datetime,
    report: Callable[[int], None] | None,
) -> _Count:
    """Bring the rows of a file into the temporary table."""
    cur.execute(queries["drop_incoming"])
    cur.execute(queries["create_incoming"])
    count, reported = _Count(), 0
    rows = _rows(path, count, now)
    with cur.copy(queries["copy_incoming"]) as copy:
        while block := "".join(islice(rows, _ROWS_PER_WRITE)):
            copy.write(block)
            if report and count.read - reported >= _ROWS_PER_REPORT:
                reported = count.read
                report(reported)
    if report and count.read > reported:
        report(count.read)
    return count


def _rows(path: Path, count: _Count, now: datetime) -> Iterator[str]:
    """Iterate over the rows of a file up to now, in the text format of COPY."""
    with open_text(path) as text:
        lines = numbered_lines(text)
        layout = Layout.of_header(next(lines, (1, ""))[1], path)
        for number, line in lines:
            if not line:
                continue
            count.read += 1
            try:
                position = layout.position(line)
                if position.observed_at > now:
                    count.early += 1
                    raise MalformedRowError(
                        f"time {position.observed_at:{_TIME}} lies after now, {now:{_TIME}}"
                    )
            except MalformedRowError as exc:
                count.malformed += 1
                if len(count.shown) < MAX_SHOWN:
                    count.shown.append((number, str(exc)))
            else:
                name = position.vessel_name
                count.is_simulated |= name is not None and name.startswith(SIMULATED_NAME)
                yield _copied(position)


def _report(path: Path, count: _Count) -> LoadReport:
    if not count.read:
        raise InputFileError(f"{path}: holds no rows")
    if count.read == count.malformed:
        line, reason = count.shown[0]
        raise InputFileError(
            f"{path}: none of its {count.read:,} rows can be read; the first, line {line}, {reason}"
        )
    return LoadReport(
        rows_read=count.read,
        malformed=tuple(count.shown),
        malformed_count=count.malformed,
        early_count=count.early,
        is_simulated=count.is_simulated or path.with_name(path.name + ".truth.json").exists(),
    )


def _copied(p: Position) -> str:
    fields = (
        p.mmsi, p.observed_at.isoformat(), p.lat, p.lon, p.sog_kn, p.cog_deg, p.heading_deg,
        _escaped(p.vessel_name), _escaped(p.imo), _escaped(p.call_sign), p.vessel_type,
    )  # fmt: skip
    return "\t".join(["\\N" if value is None else str(value) for value in fields]) + "\n"


def _escaped(text: str | None) -> str | None:
    if text is None or ("\\" not in text and "\t" not in text and "\r" not in text):
        return text
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\r", "\\r")


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as exc:
        raise InputFileError(f"{path}: there is no such file") from exc
    except OSError as exc:
        raise InputFileError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
