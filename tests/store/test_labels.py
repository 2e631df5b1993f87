"""Labels: append-only, as known at an instant, loaded from a file as often as one likes."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests import sample_registry
from tests.sample_registry import SCHEMA

from airflow_detection.errors import InputFileError, PlanError, RegistrationError
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.grants import grant
from airflow_detection.store.label_file import LabelReport, load_labels
from airflow_detection.store.labels import Label, add_labels, known_instant, known_labels

FROM, TO = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)


def label(
    entity_id: str = "a",
    is_positive: bool | None = True,  # noqa: FBT001 - as in a file
    **fields: Any,
) -> Label:
    given = {"cycle_id": "fleet", "valid_from": FROM, "valid_to": TO, "source": "coast guard"} | fields
    return Label(entity_id=entity_id, is_positive=is_positive, **given)


@pytest.fixture
def db(database: Connection) -> Database:
    sample_registry.register(database)
    return Database(database, SCHEMA)


def known(db: Database, **asked: Any) -> list[tuple[str, bool | None]]:
    return [(item.entity_id, item.is_positive) for item in known_labels(db, "fleet", **asked)]


def test_a_label_added_twice_is_added_once(db: Database) -> None:
    assert add_labels(db, [label("a"), label("b", False), label("a")]) == 2
    assert add_labels(db, [label("a"), label("b", False)]) == 0
    assert known(db) == [("a", True), ("b", False)]  # the last of a unit counts, where it stands
    stored = known_labels(db, "fleet", entity_id="a")[0]
    assert (stored.valid_from, stored.valid_to, stored.source, stored.model_id) == (
        FROM,
        TO,
        "coast guard",
        None,
    )
    assert stored.label_id > 0
    assert stored.actor == "postgres"


def test_a_newer_label_supersedes_and_what_was_known_stays(db: Database) -> None:
    add_labels(db, [label("a", True)])
    before = known_instant(db)
    assert add_labels(db, [label("a", False, note="it was a buoy")]) == 1
    between = known_instant(db)
    assert add_labels(db, [label("a", None)]) == 1
    assert known(db, known_at=before) == [("a", True)]
    assert known(db, known_at=between) == [("a", False)]
    assert known(db) == []
    assert add_labels(db, [label("never seen", None)]) == 0


def test_units_are_apart_by_model_and_interval(db: Database) -> None:
    added = [label(), label(model_id="tracks"), label(valid_to=None), label(valid_to=TO + timedelta(hours=1))]
    assert add_labels(db, added) == 4
    assert len(known(db)) == 4
    assert len(known(db, model_id="spoofing")) == 3
    assert len(known(db, start=TO)) == 2
    assert len(known(db, start=TO, end=TO + timedelta(hours=2), model_id="tracks")) == 2
    assert known(db, end=FROM) == []
    assert len(known(db, limit=1)) == 1


def test_what_is_known_later_cannot_be_asked_for_yet(db: Database) -> None:
    with pytest.raises(PlanError, match="cannot be told yet"):
        known_labels(db, "fleet", known_at=datetime.now(UTC) + timedelta(hours=1))


def test_nobody_backdates_changes_or_deletes_a_label(db: Database) -> None:
    start = known_instant(db)
    db.conn.execute(
        "insert into detection.detection_labels"
        " (cycle_id, entity_id, valid, is_positive, source, recorded_at)"
        " values ('fleet', 'a', '[2026-03-01Z,2026-03-02Z)', true, 'by hand', '2020-01-01Z')"
    )
    assert known(db, known_at=start) == []
    assert known(db) == [("a", True)]
    for statement in (
        "update detection.detection_labels set is_positive = false",
        "update detection.detection_labels set recorded_at = '2020-01-01Z' where false",
        "delete from detection.detection_labels",
        "truncate detection.detection_labels",
    ):
        with pytest.raises(psycopg.errors.RestrictViolation, match="labels are append-only"):
            db.conn.execute(statement.encode())


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"cycle_id": "nope"}, RegistrationError),
        ({"model_id": "nope"}, RegistrationError),
        ({"source": ""}, RegistrationError),
        ({"entity_id": ""}, RegistrationError),
        ({"entity_id": "e" * 501}, RegistrationError),
        ({"valid_to": FROM}, ValueError),
        ({"valid_from": datetime(2026, 3, 1)}, ValueError),  # noqa: DTZ001 - what is refused
    ],
)
def test_of_a_wrong_label_nothing_is_kept(
    db: Database, fields: dict[str, Any], error: type[Exception]
) -> None:
    entity_id = fields.pop("entity_id", "b")
    with pytest.raises(error):
        add_labels(db, [label("a"), label(entity_id, **fields)])
    assert known(db) == []


def test_a_model_of_another_cycle_is_refused(db: Database) -> None:
    sample_registry.put_cycle(db.conn, cycle_id="harbour")
    with pytest.raises(RegistrationError, match="model tracks does not belong to cycle harbour"):
        add_labels(db, [label(cycle_id="harbour", model_id="tracks")])


def test_an_answer_waits_for_labels_that_are_not_committed(db: Database, dsn: str) -> None:
    """Else the same instant would be told more later on."""
    waited: list[float] = []

    def ask() -> None:
        with connect(dsn) as conn:
            start = time.perf_counter()
            asked.set()
            instants.append(known_instant(Database(conn, SCHEMA)))
            waited.append(time.perf_counter() - start)

    asked, instants = threading.Event(), list[datetime]()
    thread = threading.Thread(target=ask)
    with connect(dsn) as other, other.transaction():
        add_labels(Database(other, SCHEMA), [label("a")])
        thread.start()
        asked.wait()
        time.sleep(0.3)
        assert not waited
    thread.join(10)
    assert waited[0] >= 0.3
    assert known(db, known_at=instants[0]) == [("a", True)]


def test_two_loads_at_once_add_each_label_once(db: Database, dsn: str) -> None:
    added: list[int] = []
    gate = threading.Barrier(4)

    def one() -> None:
        with connect(dsn) as conn:
            gate.wait()
            added.append(add_labels(Database(conn, SCHEMA), [label(f"e{n}") for n in range(200)]))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == [0, 0, 0, 200]


def test_a_reader_reads_labels_a_writer_adds_them_and_neither_changes_them(db: Database, dsn: str) -> None:
    grant(db)
    add_labels(db, [label("a")])
    for role, may_add in (("detection_reader", False), ("detection_writer", True), ("detection_admin", True)):
        with connect(dsn) as conn:
            conn.execute("select set_config('role', %s, false)", [role])
            own = Database(conn, SCHEMA)
            assert ("a", True) in known(own)
            if may_add:
                assert add_labels(own, [label(role)]) == 1
                expected = (
                    psycopg.errors.RestrictViolation
                    if "admin" in role
                    else psycopg.errors.InsufficientPrivilege
                )
            else:
                expected = psycopg.errors.InsufficientPrivilege
                with pytest.raises(Exception, match="permission denied"):
                    add_labels(own, [label(role)])
            with pytest.raises(expected):
                conn.execute("update detection.detection_labels set note = 'x'")


# Files.


def load(db: Database, tmp_path: Path, text: str | bytes, **options: Any) -> LabelReport:
    file = tmp_path / "labels.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_labels(db, file, **{"cycle_id": "fleet", "source": "desk"} | options)


def test_a_file_is_loaded_once(db: Database, tmp_path: Path) -> None:
    text = (
        "\ufeffentity_id,valid_from,valid_to,is_positive,model_id,source,note\r\n"
        "a,2026-03-01T00:00Z,2026-03-02T00:00+00:00,true,,,\r\n"
        'b,2026-03-01T00:00Z,,NO,tracks,court,"found, with\nwitnesses"\r\n'
        "\r\n"
        "a,2026-03-01T01:00+01:00,2026-03-02T00:00Z,true,,,\r\n"
    )
    first = load(db, tmp_path, text)
    assert (first.rows_read, first.rows_added, first.malformed) == (3, 2, [])
    assert load(db, tmp_path, text).rows_added == 0
    by_entity = {item.entity_id: item for item in known_labels(db, "fleet")}
    assert (by_entity["a"].source, by_entity["a"].is_positive, by_entity["a"].valid_to) == ("desk", True, TO)
    b = by_entity["b"]
    assert (b.source, b.is_positive, b.valid_to, b.note) == ("court", False, None, "found, with\nwitnesses")
    assert b.model_id == "tracks"


def test_malformed_rows_are_told_by_line_and_the_others_loaded(db: Database, tmp_path: Path) -> None:
    sample_registry.put_cycle(db.conn, cycle_id="harbour")
    rows = [
        "a,2026-03-01T00:00Z,,true,,",
        ",2026-03-01T00:00Z,,true,,",
        f"{'e' * 501},2026-03-01T00:00Z,,true,,",
        "c,yesterday,,true,,",
        "d,2026-03-01T00:00,,true,,",
        "e,2026-03-01T00:00Z,2026-03-01T00:00Z,true,,",
        "f,2026-03-01T00:00Z,,perhaps,,",
        "g,2026-03-01T00:00Z,,true,nope,",
        "h,2026-03-01T00:00Z,,true,,nope",
        "i,2026-03-01T00:00Z,,true,harbour,tracks",
        "j,2026-03-01T00:00Z",
        "k,0001-01-01T00:00Z,,true,,",
        'l,"2026"x,,true,,',
        "m,2026-03-01T00:00Z,,true,,\0",
        "z,2026-03-01T00:00Z,,false,,",
    ]
    text = "\n".join(["entity_id,valid_from,valid_to,is_positive,cycle_id,model_id", *rows]).encode()
    report = load(db, tmp_path, text + b"\n\xff,2026-03-01T00:00Z,,true,,\n")
    assert known(db) == [("z", False), ("a", True)]
    assert report.malformed == [
        (3, "entity_id has 0 characters: must be 1 to 500"),
        (4, "entity_id has 501 characters: must be 1 to 500"),
        (5, "valid_from is 'yesterday': must be an instant such as 2026-01-31T00:00:00Z"),
        (6, "valid_from is '2026-03-01T00:00': has no time zone; write 2026-03-01T00:00:00Z for UTC"),
        (7, "valid_to is '2026-03-01T00:00Z': must be after valid_from"),
        (8, "is_positive is 'perhaps': must be true, false, or empty to withdraw"),
        (9, "cycle 'nope' is not registered"),
        (10, "model 'nope' is not registered"),
        (11, "model 'tracks' belongs to cycle 'fleet'"),
        (12, "has 2 fields: must be 6"),
        (13, "valid_from is '0001-01-01T00:00Z': must lie between the years 1900 and 2999"),
        (14, "',' expected after '\"'"),
        (15, "model_id is not UTF-8 text without NUL"),
        (17, "entity_id is not UTF-8 text without NUL"),
    ]
    assert (report.rows_read, report.rows_added, report.malformed_count) == (16, 2, 14)
    assert str(report) == "16 rows read, 2 new, 0 known already, 14 malformed"


def test_only_the_first_hundred_malformed_rows_are_named(db: Database, tmp_path: Path) -> None:
    report = load(db, tmp_path, "entity_id,valid_from,is_positive\n" + "a,never,true\n" * 250)
    assert (len(report.malformed), report.malformed_count) == (100, 250)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "line 1: column 'entity_id' is missing"),
        ("entity,valid_from,is_positive\n", "unknown column 'entity'; the nearest name is 'entity_id'"),
        ("entity_id,valid_from\na,b\n", "column 'is_positive' is missing"),
        ("entity_id,valid_from,is_positive,note,note\n", "twice"),
        ("entity_id,valid_from,is_positive\n", "has no rows"),
    ],
)
def test_a_file_that_is_none_of_labels_is_refused(
    db: Database, tmp_path: Path, text: str, match: str
) -> None:
    with pytest.raises(InputFileError, match=match):
        load(db, tmp_path, text)


def test_a_file_that_is_missing_or_of_an_unknown_cycle_is_refused(db: Database, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="No such file"):
        load_labels(db, tmp_path / "none.csv")
    with pytest.raises(InputFileError, match="'flet' is not registered; the nearest name is 'fleet'"):
        load(db, tmp_path, "", cycle_id="flet")


def test_rows_that_name_no_cycle_or_source_need_a_default(db: Database, tmp_path: Path) -> None:
    text = "entity_id,valid_from,is_positive,model_id\na,2026-03-01T00:00Z,1,\nb,2026-03-01T00:00Z,0,tracks\n"
    assert [reason for _, reason in load(db, tmp_path, text, cycle_id=None, source=None).malformed] == [
        "names neither a cycle nor a model", "source is missing",
    ]  # fmt: skip
    assert load(db, tmp_path, text, cycle_id=None).rows_added == 1


def test_many_labels_cost_seconds_of_processor_time(db: Database, tmp_path: Path) -> None:
    rows = "".join(f"e{n},2026-03-01T00:00Z,1\n" for n in range(20_000))
    begun = time.process_time()
    assert load(db, tmp_path, "entity_id,valid_from,is_positive\n" + rows).rows_added == 20_000
    assert load(db, tmp_path, "entity_id,valid_from,is_positive\n" + rows).rows_added == 0
    assert time.process_time() - begun < 20
