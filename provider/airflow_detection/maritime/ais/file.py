"""Positions files as the MarineCadastre series publishes them: opened, decompressed, read line by line."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from airflow_detection.errors import InputFileError
from airflow_detection.maritime.tracks.mmsi import MMSI_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

MAX_LINE = 65_536
"""Characters; a longer line is malformed, and is not held in memory."""

_READ_BYTES = 4_096
_FULL_TIME = len("2020-01-01T00:00")
_MIN_REAL, _MAX_REAL = 1e-30, 1e6

# Field -> the names it has had, without case, spaces and underscores.
_NAMES = {
    "mmsi": ("mmsi",),
    "observed_at": ("basedatetime",),
    "lat": ("lat", "latitude"),
    "lon": ("lon", "longitude"),
    "sog_kn": ("sog", "sogkn"),
    "cog_deg": ("cog", "cogdeg"),
    "heading_deg": ("heading", "headingdeg"),
    "vessel_name": ("vesselname",),
    "imo": ("imo",),
    "call_sign": ("callsign",),
    "vessel_type": ("vesseltype",),
}
_REQUIRED = ("mmsi", "observed_at", "lat", "lon")


class MalformedRowError(ValueError):
    """A row that cannot be read; the text is the reason."""


class Position(NamedTuple):
    """One row, as it is stored: times are UTC, speeds knots, angles degrees."""

    mmsi: int
    observed_at: datetime
    lat: float | None
    lon: float | None
    sog_kn: float | None
    cog_deg: float | None
    heading_deg: float | None
    vessel_name: str | None
    imo: str | None
    call_sign: str | None
    vessel_type: int | None


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a positions file, plain or compressed (gzip, Zstandard, zip), by its content, not by its name.

    Bytes that are not UTF-8 become lone surrogates. An error of the file, here or while it is read inside
    the context, is an InputFileError that names it.
    """
    try:
        with ExitStack() as stack:
            raw: IO[bytes] = stack.enter_context(path.open("rb"))
            magic = raw.read(4)
            raw.seek(0)
            if magic[:2] == b"\x1f\x8b":
                raw = cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=raw)))
            elif magic == b"\x28\xb5\x2f\xfd":
                raw = stack.enter_context(io.BufferedReader(_ZstdFrames(raw, _zstandard(path))))
            elif magic == b"PK\x03\x04":
                raw = stack.enter_context(_only_member(stack.enter_context(zipfile.ZipFile(raw)), path))
            yield stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape"))
    except FileNotFoundError as exc:
        raise InputFileError(f"{path}: there is no such file") from exc
    except EOFError as exc:
        raise InputFileError(f"{path}: the compressed file ends too early; it may be truncated") from exc
    except (zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, _DamagedFrame) as exc:
        raise InputFileError(f"{path}: the compressed file is damaged: {exc}") from exc
    except OSError as exc:
        raise InputFileError(f"{path}: cannot be read: {exc.strerror or exc}") from exc


def _only_member(archive: zipfile.ZipFile, path: Path) -> IO[bytes]:
    members = [m for m in archive.infolist() if _is_table(m.filename)]
    if len(members) != 1:
        raise InputFileError(f"{path}: the archive holds {len(members)} CSV files: must hold one")
    if members[0].flag_bits & 0x1:
        raise InputFileError(f"{path}: the archive is encrypted")
    try:
        return archive.open(members[0])
    except NotImplementedError as exc:
        raise InputFileError(f"{path}: the archive uses a compression that cannot be read here") from exc


def _is_table(member: str) -> bool:
    """Tell whether a member is a CSV file, and none of the shadows (`__MACOSX/._day.csv`) that macOS adds."""
    *folders, name = member.lower().split("/")
    return name.endswith((".csv", ".txt")) and not name.startswith(".") and "__macosx" not in folders


def _zstandard(path: Path) -> ModuleType:
    try:
        return import_module("zstandard")
    except ModuleNotFoundError as exc:
        raise InputFileError(
            f"{path}: a Zstandard file needs the package zstandard, which the extra 'maritime' installs"
        ) from exc


class _DamagedFrame(Exception):
    """A Zstandard frame cannot be decompressed."""


class _ZstdFrames(io.RawIOBase):
    """The content of Zstandard frames, one after the other; EOFError where the last one is incomplete."""

    def __init__(self, source: IO[bytes], zstandard: ModuleType) -> None:
        self._source = source
        self._zstandard = zstandard
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._pending = memoryview(b"")
        self._is_started = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # the stub's Buffer has no len
        while not self._pending:
            chunk = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame, self._is_started = self._zstandard.ZstdDecompressor().decompressobj(), False
            chunk = chunk or self._source.read(_READ_BYTES)
            if not chunk:
                if self._is_started:
                    raise EOFError
                return 0
            self._is_started = True
            try:
                self._pending = memoryview(self._frame.decompress(chunk))
            except self._zstandard.ZstdError as exc:
                raise _DamagedFrame(str(exc)) from exc
        size = min(len(buffer), len(self._pending))
        buffer[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size


def numbered_lines(text: IO[str]) -> Iterator[tuple[int, str]]:
    """Iterate over (line number from 1, line without its end); of an overlong line, its first part."""
    number = 0
    while line := text.readline(MAX_LINE + 1):
        number += 1
        rest = line
        while len(rest) > MAX_LINE and not rest.endswith("\n"):
            rest = text.readline(MAX_LINE + 1)
        yield number, line.rstrip("\n")


@dataclass(frozen=True, slots=True)
class Layout:
    """The column of each field of a position in a file: an index, -1 for a field that it lacks."""

    width: int
    index: tuple[int, ...]

    @classmethod
    def of_header(cls, line: str, path: Path) -> Layout:
        """Read the first line of a file.

        Raises:
            InputFileError: it is not the header of a positions file.
        """
        try:
            header = [name.lower().replace("_", "").replace(" ", "") for name in _fields(line)]
        except MalformedRowError as exc:
            raise InputFileError(f"{path}: is not a positions file: its first line {exc}") from exc
        index: dict[str, int] = {}
        for field, names in _NAMES.items():
            columns = [i for i, name in enumerate(header) if name in names]
            if len(columns) > 1:
                raise InputFileError(f"{path}: its header has {len(columns)} columns for {field}")
            index[field] = columns[0] if columns else -1
        missing = [f for f in _REQUIRED if index[f] < 0]
        if len(missing) == len(_REQUIRED):
            raise InputFileError(f"{path}: is not a positions file: its first line names no column of one")
        if missing:
            names_of_missing = ", ".join(" or ".join(_NAMES[f]) for f in missing)
            raise InputFileError(f"{path}: its header lacks a required column: {names_of_missing}")
        return cls(len(header), tuple(index[f] for f in Position._fields))

    def position(self, line: str) -> Position:
        """Read one line.

        Raises:
            MalformedRowError: the line is not a position.
        """
        fields = _fields(line)
        if len(fields) != self.width:
            raise MalformedRowError(f"has {len(fields)} fields, the header has {self.width}")
        fields.append("")  # the value of an absent column
        mmsi, time, lat, lon, sog, cog, heading, name, imo, call_sign, vessel_type = (
            fields[i].strip() for i in self.index
        )
        return Position(
            _mmsi(mmsi),
            _instant(time),
            _number("lat", lat, 91.0),
            _number("lon", lon, 181.0),
            _real("sog", sog),
            _real("cog", cog),
            _real("heading", heading),
            name or None,
            imo or None,
            call_sign or None,
            _whole("vessel type", vessel_type),
        )


def _fields(line: str) -> list[str]:
    if len(line) > MAX_LINE:
        raise MalformedRowError(f"has more than {MAX_LINE} characters")
    if "\0" in line:
        raise MalformedRowError("holds a NUL character")
    if not line.isascii() and any("\ud800" <= char <= "\udfff" for char in line):
        raise MalformedRowError("is not UTF-8 text")
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as exc:
        raise MalformedRowError(f"is not CSV: {exc}") from exc


def _mmsi(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise MalformedRowError(f"mmsi {_shown(text)} is not a whole number")
    if len(text) > 10 or (value := int(text)) >= MMSI_LIMIT:
        raise MalformedRowError(f"mmsi {_shown(text)} has more than 30 bits")
    return value


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
        if len(text) < _FULL_TIME:
            raise MalformedRowError(f"time {_shown(text)} has no time of day")
        # a time without a zone is UTC
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except MalformedRowError:
        raise
    except (ValueError, OverflowError) as exc:
        raise MalformedRowError(f"time {_shown(text)} is not a time") from exc


def _number(name: str, text: str, limit: float) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as exc:
        raise MalformedRowError(f"{name} {_shown(text)} is not a number") from exc
    if "_" in text:
        raise MalformedRowError(f"{name} {_shown(text)} is not a number")
    if not -limit <= value <= limit:  # false for NaN too
        raise MalformedRowError(f"{name} {_shown(text)} is outside [-{limit:g}, {limit:g}]")
    return value


def _real(name: str, text: str) -> float | None:
    """Read a number for a column of single precision."""
    value = _number(name, text, _MAX_REAL)
    return 0.0 if value is not None and abs(value) < _MIN_REAL else value


def _whole(name: str, text: str) -> int | None:
    value = _number(name, text, _MAX_REAL)
    if value is None:
        return None
    if value != int(value):
        raise MalformedRowError(f"{name} {_shown(text)} is not a whole number")
    return int(value)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
