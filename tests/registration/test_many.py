"""Large registration files: as few statements as for small ones, and each refusal at its own line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.sample_registry import AT, SCHEMA, note_run

from airflow_detection.domain.specs import Mode
from airflow_detection.errors import RegistrationError
from airflow_detection.registration.apply import apply_file
from airflow_detection.store import cycle_runs, registry
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database

CYCLES = """
cycles:
  c: {schedule: "*/5 * * * *", lookback: 60m, start_date: 2026-01-01T00:00:00Z}
models:
"""
SINCE = "since: 2026-02-01T00:00:00Z"
MODEL = """
  m{n}:
    cycle: c
    entrypoint: {entrypoint}
    depends_on: [{upstream}]
    versions:
      "1": {{role: {role}, params: {{n: {param}}}}}
      "2": {{role: SHADOW, notes: "{notes}"}}
"""


class CountingCursor(psycopg.Cursor[Any]):
    """Cursor that counts the statements of all cursors."""

    count = 0

    def execute(self, *args: Any, **options: Any) -> Any:
        CountingCursor.count += 1
        return super().execute(*args, **options)


def written(folder: Path, models: int, **changed: dict[int, str]) -> Path:
    """Write a file of models; `changed` are fields of single models."""
    usual = {"entrypoint": "e", "role": f"PRIMARY, {SINCE}", "notes": ""}
    texts = []
    for n in range(models):
        fields = {**usual, "param": str(n), "upstream": f"m{n - 1}" if n % 3 else ""}
        fields |= {name: by_number[n] for name, by_number in changed.items() if n in by_number}
        texts.append(MODEL.format(n=n, **fields))
    path = folder / "many.yaml"
    path.write_text(CYCLES + "".join(texts))
    return path


def statements(conn: Connection, path: Path) -> tuple[int, int]:
    """Return how many changes a file made, and how many statements they took."""
    CountingCursor.count, conn.cursor_factory = 0, CountingCursor
    return len(apply_file(Database(conn, SCHEMA), path)), CountingCursor.count


def test_ten_times_as_many_models_take_no_more_statements(database: Connection, tmp_path: Path) -> None:
    few, of_few = statements(database, written(tmp_path, 10))
    many, of_many = statements(database, written(tmp_path, 100))
    assert (few, many) == (1 + 10 * 5, 90 * 5)
    assert of_many <= of_few, "the cycle was there already"
    assert statements(database, written(tmp_path, 100)) == (0, statements(database, written(tmp_path, 10))[1])
    notes, role = dict.fromkeys(range(100), "seen"), dict.fromkeys((7, 50), "SHADOW")
    changed = written(tmp_path, 100, notes=notes, role=role)
    assert statements(database, changed)[0] == 100 + 2
    versions = registry.versions(Database(database, SCHEMA))
    assert [v.label for v in versions if v.model_id in ("m7", "m8")] == ["m7@1", "m7@2", "m8@1", "m8@2"]
    assert {v.role for v in versions if v.model_id == "m50"} == {"SHADOW"}
    assert [s.depends_on for s in registry.model_specs(Database(database, SCHEMA)) if s.model_id == "m8"] == [
        ("m7",)
    ]


def test_each_refusal_of_many_is_told_at_its_line_and_nothing_is_kept(
    database: Connection, tmp_path: Path
) -> None:
    apply_file(Database(database, SCHEMA), written(tmp_path, 60))
    for n in (5, 17, 18, 41):
        note_run(database, f"m{n}@1", at=AT - timedelta(days=60))
    before = registry.versions(Database(database, SCHEMA))
    path = written(
        tmp_path, 62,
        entrypoint={5: "other", 41: "another"}, param={17: "99", 18: "98"},
        notes=dict.fromkeys(range(60), "seen"), upstream={30: "m29"},
    )  # fmt: skip
    with pytest.raises(RegistrationError) as caught:
        apply_file(Database(database, SCHEMA), path)
    lines = path.read_text().splitlines()
    expected = []
    for n in (5, 41):
        reason = "has run, its entrypoint cannot change: give a new version an entry point of its own"
        expected.append((lines.index(f"  m{n}:") + 1, f"models.m{n}: model m{n} {reason}"))
    for n in (17, 18):
        reason = f"version 1 of model m{n} has run, its params cannot change: register another version"
        expected.append((lines.index(f"  m{n}:") + 6, f"models.m{n}.versions.1: {reason}"))
    assert str(caught.value).splitlines() == [f"{path}:{line}: {text}" for line, text in sorted(expected)]
    assert registry.versions(Database(database, SCHEMA)) == before


def test_a_start_that_would_change_the_past_is_told_at_its_line(database: Connection, tmp_path: Path) -> None:
    db = Database(database, SCHEMA)
    apply_file(db, written(tmp_path, 3))
    cycle = registry.cycle_spec(db, "c").at(registry.clock(db))
    cycle_runs.record_plan(db, cycle, Mode.AS_OF, {}, "0" * 64, None)
    path = written(tmp_path, 5, role={2: f"SHADOW, {SINCE}"})
    with pytest.raises(RegistrationError) as caught:
        apply_file(db, path)
    rewritten = "the history of 'm2' cannot be rewritten; without a start it holds from now on"
    planned = "cycle 'c' has been planned since; without a start it holds from now on"
    since = "since 2026-02-01T00:00:00+00:00"
    assert [line.split(": ", 1)[1] for line in str(caught.value).splitlines()] == [
        f"models.m2.versions.1: m2@1 cannot be SHADOW {since}: {rewritten}",
        f"models.m3.versions.1: m3@1 cannot be PRIMARY {since}: {planned}",
        f"models.m4.versions.1: m4@1 cannot be PRIMARY {since}: {planned}",
    ]
