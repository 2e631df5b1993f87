"""The loader, against a real database."""

from __future__ import annotations

import csv
import gzip
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard
from psycopg import sql

from airflow_detection.errors import InputFileError
from airflow_detection.maritime.ais.load import LoadReport, load_file

Connection = psycopg.Connection[tuple[Any, ...]]

OFFICIAL = (
    "MMSI,BaseDateTime,LAT,LON,SOG,COG,Heading,VesselName,IMO,CallSign,VesselType,Status,Length,Width,Draft,"
    "Cargo,TransceiverClass\n"
)
SNAKE = "mmsi,base_date_time,lat,lon,sog_kn,cog_deg,heading_deg\n"
NEW = "mmsi,base_date_time,longitude,latitude,sog,cog,heading,vessel_name,imo,call_sign,vessel_type,status\n"
OFFICIAL_ROW = (
    "366000001,2020-01-01T00:00:01,29.5,-90.25,7.7,221.2,511,GULF STAR,IMO9074729,WXY1,70,0,100,20,8,70,A\n"
)
SNAKE_ROWS = "".join(f"366000001,2020-01-01T00:0{m}:00,29.5,-90.{m}5,7.7,221.2,511\n" for m in range(5))


def written(folder: Path, text: str | bytes, name: str = "day.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def count(database: Connection, table: str = "ais_positions") -> int:
    query = sql.SQL("select count(*) from {}").format(sql.Identifier("detection", table))
    row = database.execute(query).fetchone()
    assert row
    return int(row[0])


def stored(database: Connection) -> tuple[Any, ...]:
    row = database.execute(
        "select mmsi, observed_at, lat, lon, sog_kn, cog_deg, heading_deg, vessel_name, imo, call_sign,"
        " vessel_type from detection.ais_positions"
    ).fetchone()
    assert row
    return row


AT = datetime(2020, 1, 1, 0, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            OFFICIAL + OFFICIAL_ROW,
            (366000001, AT, 29.5, -90.25, 7.7, 221.2, 511.0, "GULF STAR", "IMO9074729", "WXY1", 70),
        ),
        (
            SNAKE + "366000001,2020-01-01T00:00:01,29.5,-90.25,,,511\n",
            (366000001, AT, 29.5, -90.25, None, None, 511.0, None, None, None, None),
        ),
        (
            "\ufeff" + NEW + '366000001,2020-01-01 00:00:01,-90.25,29.5,7.7,1.0,3,"A, ""B"" \\ C",,,,0\r\n',
            (366000001, AT, 29.5, -90.25, 7.7, 1.0, 3.0, 'A, "B" \\ C', None, None, None),
        ),
        (
            SNAKE + "366000001,2020-01-01T02:00:01+02:00,91.0,181.0,102.3,360.0,511\n",
            (366000001, AT, 91.0, 181.0, 102.3, 360.0, 511.0, None, None, None, None),
        ),
    ],
    ids=["official", "snake", "new", "offset and not-available values"],
)
def test_each_header_style_is_read(
    database: Connection, tmp_path: Path, text: str, expected: tuple[Any, ...]
) -> None:
    report = load_file(database, written(tmp_path, text))
    assert (report.rows_read, report.rows_loaded, report.duplicates, report.malformed_count) == (1, 1, 0, 0)
    assert report.first_observed_at == report.last_observed_at == AT
    assert stored(database) == expected


def zipped(text: bytes, folder: Path) -> bytes:
    with zipfile.ZipFile(folder / "day.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("AIS_2020_01_01.csv", text)
        archive.writestr("about.xml", "<about/>")
    return (folder / "day.zip").read_bytes()


def zipped_on_a_mac(text: bytes, folder: Path) -> bytes:
    with zipfile.ZipFile(folder / "mac.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("day/", b"")
        archive.writestr("day/.DS_Store", b"\0\0\0\1Bud1")
        archive.writestr("day/AIS_2020_01_01.csv", text)
        archive.writestr("day/._AIS_2020_01_01.csv", b"\0\5\x16\7 AppleDouble")
        archive.writestr("__MACOSX/day/._AIS_2020_01_01.csv", b"\0\5\x16\7 AppleDouble")
        archive.writestr("__MACOSX/._day", b"\0\5\x16\7 AppleDouble")
    return (folder / "mac.zip").read_bytes()


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["without a mark", "with a byte-order mark"])
@pytest.mark.parametrize("kind", ["plain", "gzip", "zstd", "zstd in two frames", "zip", "zip made on macOS"])
def test_a_file_is_decompressed_by_its_content_not_by_its_name(
    database: Connection, tmp_path: Path, kind: str, mark: bytes
) -> None:
    text = mark + (SNAKE + SNAKE_ROWS).encode()
    content = {
        "plain": lambda: text,
        "gzip": lambda: gzip.compress(text),
        "zstd": lambda: zstandard.compress(text),
        "zstd in two frames": lambda: zstandard.compress(text[:80]) + zstandard.compress(text[80:]),
        "zip": lambda: zipped(text, tmp_path),
        "zip made on macOS": lambda: zipped_on_a_mac(text, tmp_path),
    }[kind]()
    assert load_file(database, written(tmp_path, content, "day.dat")).rows_loaded == 5


def test_malformed_rows_are_reported_by_line_and_cost_only_themselves(
    database: Connection, tmp_path: Path
) -> None:
    good = "366000001,2020-01-01T00:0{}:00,29.5,-90.25,7.7,221.2,511\n"
    bad = [
        ("366000001,2020-01-01T00:00:01,29.x5,-90.25,7.7,221.2,511", "lat '29.x5' is not a number"),
        ("366000001,2020-01-01T00:00:01,29.5,-90.25,7.7", "has 5 fields, the header has 7"),
        ("366000001,2020-01-01T00:00:61,29.5,-90.25,7.7,221.2,511", "is not a time"),
        ("366000001,2020-01-01,29.5,-90.25,7.7,221.2,511", "has no time of day"),
        ("366000001,,29.5,-90.25,7.7,221.2,511", "time '' is not a time"),
        ("366000001,2020-01-01T00:00:01,29.5,-90.25,7.\x007,221.2,511", "holds a NUL character"),
        ("366000001,2020-01-01T00:00:01,nan,-90.25,7.7,221.2,511", "lat 'nan' is outside"),
        ("366000001,2020-01-01T00:00:01,29.5,-90.25,inf,221.2,511", "sog 'inf' is outside"),
        ("366000001,2020-01-01T00:00:01,91.5,-90.25,7.7,221.2,511", "lat '91.5' is outside [-91, 91]"),
        ("366000001,2020-01-01T00:00:01,29.5,-181.5,7.7,221.2,511", "lon '-181.5' is outside [-181, 181]"),
        ("366000001.5,2020-01-01T00:00:01,29.5,-90.25,7.7,221.2,511", "is not a whole number"),
        ("-1,2020-01-01T00:00:01,29.5,-90.25,7.7,221.2,511", "mmsi '-1' is not a whole number"),
        ("1073741824,2020-01-01T00:00:01,29.5,-90.25,7.7,221.2,511", "has more than 30 bits"),
        ("366000001,2020-01-01T00:00:01,2_9.5,-90.25,7.7,221.2,511", "lat '2_9.5' is not a number"),
        ('366000001,2020-01-01T00:00:01,"29.5,-90.25,7.7,221.2,511', "is not CSV"),
        ("366000001,2020-01-01T00:00:01,29.5,-90.25,7.7,221.2," + "5" * 70_000, "more than 65536 characters"),
    ]
    lines = [good.format(0)]
    for row, _ in bad:
        lines.append(row + "\n")
    lines += [good.format(1)]
    content = (SNAKE + "".join(lines)).encode() + b"366000001,2020-01-01T00:00:01,29.5,-90.25,7.7,\xff,5\n"
    report = load_file(database, written(tmp_path, content))
    assert (report.rows_read, report.rows_loaded, report.malformed_count) == (len(bad) + 3, 2, len(bad) + 1)
    expected = [(number, reason) for number, (_, reason) in enumerate(bad, start=3)]
    expected.append((len(bad) + 4, "is not UTF-8 text"))
    assert [number for number, _ in report.malformed] == [number for number, _ in expected]
    for (_, reason), (_, expected_reason) in zip(report.malformed, expected, strict=True):
        assert expected_reason in reason
    assert count(database) == 2


def test_rows_after_now_are_reported_by_line_and_loaded_once_their_time_has_come(
    database: Connection, tmp_path: Path
) -> None:
    path = written(tmp_path, SNAKE + SNAKE_ROWS)
    now = datetime(2020, 1, 1, 0, 2, 30, tzinfo=UTC)
    report = load_file(database, path, now=now)
    assert (report.rows_read, report.rows_loaded, report.early_count, report.malformed_count) == (5, 3, 2, 2)
    reason = "time 2020-01-01T00:0{}:00Z lies after now, 2020-01-01T00:02:30Z"
    assert report.malformed == ((5, reason.format(3)), (6, reason.format(4)))
    assert report.last_observed_at == datetime(2020, 1, 1, 0, 2, tzinfo=UTC)
    again = load_file(database, path)
    assert (again.rows_loaded, again.duplicates, again.malformed_count, count(database)) == (2, 3, 0, 5)
    assert load_file(database, path).is_already_loaded


def test_a_file_of_the_future_is_refused(database: Connection, tmp_path: Path) -> None:
    path = written(tmp_path, SNAKE + SNAKE_ROWS.replace("2020", "2199"))
    with pytest.raises(InputFileError, match="the first, line 2, time 2199-01-01T00:00:00Z lies after now"):
        load_file(database, path)
    assert (count(database), count(database, "ais_files")) == (0, 0)


def test_only_the_first_hundred_malformed_rows_are_named(database: Connection, tmp_path: Path) -> None:
    report = load_file(database, written(tmp_path, SNAKE + "x\n" * 150 + SNAKE_ROWS))
    assert (report.malformed_count, len(report.malformed)) == (150, 100)


def test_a_second_load_adds_nothing(database: Connection, tmp_path: Path) -> None:
    path = written(tmp_path, SNAKE + SNAKE_ROWS)
    load_file(database, path)
    second = load_file(database, path)
    assert (second.is_already_loaded, second.rows_loaded, count(database)) == (True, 0, 5)
    repacked = load_file(database, written(tmp_path, gzip.compress(path.read_bytes()), "day.csv.gz"))
    assert (repacked.is_already_loaded, repacked.rows_loaded, repacked.duplicates) == (False, 0, 5)
    assert (count(database), count(database, "ais_files")) == (5, 2)


def test_a_file_that_overlaps_adds_only_what_is_new(database: Connection, tmp_path: Path) -> None:
    load_file(database, written(tmp_path, SNAKE + SNAKE_ROWS))
    more = SNAKE_ROWS + "366000001,2020-01-01T00:09:00,29.5,-90.25,7.7,221.2,511\n" * 2
    report = load_file(database, written(tmp_path, SNAKE + more, "more.csv"))
    assert (report.rows_read, report.rows_loaded, report.duplicates) == (7, 1, 6)


def test_two_places_in_one_second_are_two_rows(database: Connection, tmp_path: Path) -> None:
    rows = "".join(f"366000001,2020-01-01T00:00:00,{lat},-90.25,,,\n" for lat in ("29.5", "39.5", ""))
    assert load_file(database, written(tmp_path, SNAKE + rows + rows)).rows_loaded == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a positions file"),
        (SNAKE.encode(), "holds no rows"),
        ((SNAKE + "x\ny\n").encode(), "none of its 2 rows can be read; the first, line 2, has 1 fields"),
        (b"name,colour\nx,y\n", "its first line names no column of one"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is not a positions file"),
        (b"mmsi,base_date_time,lat,sog\n", "lacks a required column: lon or longitude"),
        (b"mmsi,base_date_time,lat,lon,LAT\n", "has 2 columns for lat"),
        (gzip.compress((SNAKE + SNAKE_ROWS).encode() * 50)[:-30], "may be truncated"),
        (gzip.compress((SNAKE + SNAKE_ROWS).encode())[:-8] + b"\0" * 8, "is damaged"),
        (zstandard.compress((SNAKE + SNAKE_ROWS).encode())[:-5], "may be truncated"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 40, "is damaged"),
        (b"PK\x03\x04 and no more", "is damaged"),
    ],
)
def test_a_file_that_is_not_a_positions_file_is_an_error_of_one_line(
    database: Connection, tmp_path: Path, content: bytes, reason: str
) -> None:
    path = written(tmp_path, content, "other.csv")
    with pytest.raises(InputFileError, match=r"other\.csv") as caught:
        load_file(database, path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (count(database), count(database, "ais_files")) == (0, 0)
    assert load_file(database, written(tmp_path, SNAKE + SNAKE_ROWS)).rows_loaded == 5, (
        "the connection still works"
    )


def test_a_truncated_file_leaves_nothing_half_loaded(database: Connection, tmp_path: Path) -> None:
    rows = "".join(f"{366000000 + i},2020-01-01T00:00:00,{i % 80},-90.25,,,\n" for i in range(20_000))
    seen: list[int] = []
    path = written(tmp_path, gzip.compress((SNAKE + rows).encode())[:-2000])
    with pytest.raises(InputFileError, match="truncated"):
        load_file(database, path, report=seen.append)
    assert (count(database), count(database, "ais_files")) == (0, 0)


def test_a_missing_file_and_a_folder_are_named(database: Connection, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"absent\.csv: there is no such file"):
        load_file(database, tmp_path / "absent.csv")
    with pytest.raises(InputFileError, match="cannot be read"):
        load_file(database, tmp_path)


def test_progress_is_reported(database: Connection, tmp_path: Path) -> None:
    seen: list[int] = []
    load_file(database, written(tmp_path, SNAKE + SNAKE_ROWS), report=seen.append)
    assert seen == [5]


@pytest.fixture
def kathmandu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that is not in UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("kathmandu")
def test_no_time_zone_of_machine_or_session_changes_anything(database: Connection, tmp_path: Path) -> None:
    database.execute("set timezone to 'Asia/Kathmandu'")
    report = load_file(database, written(tmp_path, SNAKE + "366000001,2020-01-01T00:00:01,29.5,-90.25,,,\n"))
    assert report.first_observed_at == AT
    assert stored(database)[1] == AT


def test_two_files_load_in_one_open_transaction(database: Connection, tmp_path: Path) -> None:
    with database.transaction():
        load_file(database, written(tmp_path, SNAKE + SNAKE_ROWS))
        load_file(database, written(tmp_path, OFFICIAL + OFFICIAL_ROW, "b.csv"))
    assert count(database) == 6


def cpu_s(function: Callable[[], Any]) -> float:
    """Return the seconds of processor time that a call takes in this process, whatever else runs."""
    began = time.process_time()
    function()
    return time.process_time() - began


def test_loading_the_noaa_day_costs_at_most_thirty_times_reading_it(
    database: Connection, noaa_day: list[tuple[Any, ...]]
) -> None:
    from tests.maritime.conftest import NOAA_DAY

    def read() -> None:
        with gzip.open(NOAA_DAY, "rt", encoding="utf-8", newline="") as file:
            for row in islice(csv.reader(file), 1, None):
                datetime.fromisoformat(row[1])

    reports: list[LoadReport] = []
    assert cpu_s(lambda: reports.append(load_file(database, NOAA_DAY))) < 30 * cpu_s(read)
    (report,) = reports
    assert (report.rows_read, report.rows_loaded, report.malformed_count) == (196_472, 196_472, 0)
    assert report.last_observed_at == datetime(2020, 1, 1, 23, 59, 59, tzinfo=UTC)


def test_a_vessel_name_or_a_truth_file_marks_a_simulation(database: Connection, tmp_path: Path) -> None:
    observed = written(tmp_path, OFFICIAL + OFFICIAL_ROW, "observed.csv")
    named = written(tmp_path, OFFICIAL + OFFICIAL_ROW.replace("GULF STAR", "SIM VESSEL 1"), "named.csv")
    beside = written(tmp_path, OFFICIAL + OFFICIAL_ROW * 2, "beside.csv")
    written(tmp_path, "{}", "beside.csv.truth.json")
    assert [load_file(database, path).is_simulated for path in (observed, named, beside)] == [
        False,
        True,
        True,
    ]


def test_a_zstandard_file_names_the_extra_that_reads_it(
    database: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "day.csv.zst"
    path.write_bytes(zstandard.compress((SNAKE + SNAKE_ROWS).encode()))
    monkeypatch.setitem(sys.modules, "zstandard", None)  # as where it is not installed
    with pytest.raises(InputFileError, match="needs the package zstandard, which the extra 'maritime'"):
        load_file(database, path)
