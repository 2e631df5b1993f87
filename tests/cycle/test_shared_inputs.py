"""Input rows are read once for the versions of a cycle that run in tasks of their own on one machine."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import sample_registry
from tests.sample_registry import AT

from airflow_detection.cycle import closing, planning
from airflow_detection.cycle.shared_inputs import (
    inputs_folder,
    remove_inputs,
    remove_old_inputs,
    shared_inputs,
)
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Outcome, Role
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.operators.context import _storage_path
from airflow_detection.store.database import Database
from airflow_detection.store.input_facts import with_profiles
from airflow_detection.store.input_files import InputFiles, remove_old
from airflow_detection.store.reader import Reader

QUERY = "select id, at, doc, amount, name from seen order by id"


class Echoes(BaseDetectionModel):
    """Returns its rows."""

    def run(self, ctx: ModelContext) -> ModelResult:
        rows = ctx.inputs.rows()
        outputs = [({}, {"id": str(row["id"]), "score": None, "row": repr(dict(row))}) for row in rows]
        return ModelResult(outputs_per_input=outputs)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        allowed_prefixes=("tests.cycle.test_shared_inputs",),
        inline_timeout_s=20,
        state_dir=tmp_path,
        shared_inputs_mib=1e-6,
    )


@pytest.fixture
def seen(database: Any) -> Any:
    """A champion and two shadows that read a table, to which rows may come."""
    database.execute(
        "create table detection.seen (id int, at timestamptz, doc jsonb, amount numeric, name text)"
    )
    database.execute(
        "insert into detection.seen select n, timestamptz '2026-01-01Z' + n * interval '1 s', "
        "jsonb_build_object('n', array[n]), n / 8.0, nullif('ship ' || n, 'ship 3') "
        "from generate_series(1, 50) n"
    )
    sample_registry.put_cycle(database, input_query=QUERY)
    sample_registry.put_model(database, "m", entrypoint="tests.cycle.test_shared_inputs:Echoes")
    sample_registry.put_version(database, "m@1", Role.PRIMARY)
    for shadow in ("m@2", "m@3"):
        sample_registry.put_version(database, shadow, Role.SHADOW)
    planning.open_cycle(Database(database, "detection"), "fleet", AT, mode=Mode.AS_OF)
    return database


def run(conn: Any, settings: Settings, version: str | None = None) -> RunReport:
    request = VersionRequest(model_id="m", version=version, cycle_id="fleet", started_at=AT)
    report = run_task(Database(conn, "detection"), settings, request)
    assert report.outcome is Outcome.SUCCEEDED, report.error
    return report


def rows(conn: Any, version: str) -> list[Any]:
    return list(
        conn.execute(
            "select outputs->>'row' from detection.detection_model_run_outputs "
            "join detection.detection_model_versions using (version_id) where version = %s "
            "order by outputs->>'id'",
            [version],
        )
    )


def arrive(conn: Any) -> None:
    conn.execute("insert into detection.seen values (99, '2026-01-02Z', '{}', 1, 'late')")


def files(settings: Settings) -> list[Path]:
    return sorted(settings.state_dir.glob("inputs/*"))


def test_versions_see_the_rows_of_the_first_although_others_have_come(seen: Any, settings: Settings) -> None:
    champion = run(seen, settings)
    arrive(seen)
    shadow = run(seen, settings, "2")
    assert (champion.input_count, shadow.input_count) == (50, 50)
    assert champion.input_digest == shadow.input_digest
    assert len(rows(seen, "1")) == 50
    assert rows(seen, "1") == rows(seen, "2")
    assert "inputs" in shadow.stage_ms
    assert len(files(settings)) == 1


@pytest.mark.parametrize("change", ["off", "small", "elsewhere", "gone"])
def test_without_a_file_a_version_asks_the_query(seen: Any, settings: Settings, change: str) -> None:
    least_mib = {"off": None, "small": 1.0}.get(change, settings.shared_inputs_mib)
    settings = replace(settings, shared_inputs_mib=least_mib)
    run(seen, settings)
    assert bool(files(settings)) == (change in ("elsewhere", "gone"))
    arrive(seen)
    if change == "gone":
        files(settings)[0].unlink()
    if change == "elsewhere":
        settings = replace(settings, state_dir=settings.state_dir / "other")
    assert run(seen, settings, "2").input_count == 51
    assert files(settings) == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "other", "pickle"])
def test_a_file_with_other_rows_is_not_read(seen: Any, settings: Settings, damage: str) -> None:
    run(seen, settings)
    (path,) = files(settings)
    content = path.read_bytes()
    if damage == "flipped":
        path.write_bytes(content.replace(b"ship 7", b"ship 8"))
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "pickle":
        path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    else:
        fewer = QUERY.replace("from seen", "from (select * from seen where id < 9) as few")
        other = Reader(Database(seen, "detection"), {}).read(fewer)
        own = InputFiles(settings.state_dir / "elsewhere", ["x"])
        assert own.write("digest", other.columns)  # type: ignore[arg-type] # they are arrays
        next((settings.state_dir / "elsewhere").glob("*")).replace(path)
    arrive(seen)
    assert run(seen, settings, "2").input_count == 51


def test_a_cycle_that_is_opened_again_reads_anew(seen: Any, settings: Settings) -> None:
    run(seen, settings)
    arrive(seen)
    planning.open_cycle(Database(seen, "detection"), "fleet", AT, mode=Mode.AS_OF)
    assert [run(seen, settings, version).input_count for version in (None, "2")] == [51, 51]


def test_the_file_goes_when_the_cycle_closes_and_none_comes_after(seen: Any, settings: Settings) -> None:
    db = Database(seen, "detection")
    run(seen, settings)
    closing.close_cycle(db, "fleet", AT, mode=Mode.AS_OF, task_states={})
    remove_inputs(db, settings, "fleet", AT, Mode.AS_OF)
    assert files(settings) == []
    run(seen, settings, "2")
    seen.execute("update detection.detection_cycle_runs set inputs_digest = null")
    run(seen, settings, "3")
    assert files(settings) == []


def test_of_two_that_read_at_once_the_rows_of_the_first_count(seen: Any, settings: Settings) -> None:
    db = Database(seen, "detection")
    opened = planning.planned_cycle(db, "fleet", AT, mode=Mode.AS_OF)
    first: list[Inputs] = []

    def query() -> Inputs:
        return with_profiles(Reader(db, {}).read(QUERY), None)

    def late_query() -> Inputs:
        first.append(shared_inputs(db, settings, opened, query))
        arrive(seen)
        return query()

    second = shared_inputs(db, settings, opened, late_query)
    assert (len(first[0]), len(second)) == (50, 50)
    assert repr(list(first[0].rows())) == repr(list(second.rows()))
    assert len(files(settings)) == 1


def test_upkeep_removes_what_no_cycle_has_closed(seen: Any, settings: Settings) -> None:
    run(seen, settings)
    (path,) = files(settings)
    assert remove_old(inputs_folder(settings)) == 0
    day_ago = time.time() - 86_401
    os.utime(path, (day_ago, day_ago))
    assert remove_old(inputs_folder(settings)) == 1
    assert files(settings) == []


@pytest.fixture(params=["file", "object store"])
def shared(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """Settings of hosts that share a folder."""
    uri = f"file://{tmp_path}/a folder" if request.param == "file" else f"memory://{uuid.uuid4().hex}/inputs"
    shared = replace(settings, shared_inputs_folder=uri, path_of=_storage_path)
    yield shared
    for path in inputs_folder(shared).glob("*"):
        path.unlink()


def kept(settings: Settings) -> list[Any]:
    return list(inputs_folder(settings).glob("*"))


def test_workers_of_other_hosts_take_the_rows_of_a_folder_that_they_share(
    seen: Any, shared: Settings, tmp_path: Path
) -> None:
    run(seen, shared)
    arrive(seen)
    other_host = replace(shared, state_dir=tmp_path / "other")
    assert [run(seen, settings, "2").input_count for settings in (other_host,)] == [50]
    assert rows(seen, "2") == rows(seen, "1")
    assert run(seen, replace(other_host, shared_inputs_folder=None), "3").input_count == 51
    assert not (shared.state_dir / "inputs").exists()
    assert len(kept(shared)) == 1
    remove_inputs(Database(seen, "detection"), shared, "fleet", AT, Mode.AS_OF)
    assert kept(shared) == []


def test_a_file_of_the_folder_that_somebody_has_changed_is_not_used(seen: Any, shared: Settings) -> None:
    run(seen, shared)
    (path,) = kept(shared)
    with path.open("rb") as file:
        content = file.read()
    with path.open("wb") as file:
        file.write(content[: len(content) // 2])
    arrive(seen)
    assert run(seen, shared, "2").input_count == 51


def test_upkeep_removes_old_files_of_the_folder_where_the_store_knows_their_age(
    seen: Any, shared: Settings
) -> None:
    run(seen, shared)
    time.sleep(0.01)
    assert remove_old(inputs_folder(shared)) == 0
    removed = remove_old(inputs_folder(shared), max_age_s=0)
    assert (removed, len(kept(shared))) in [(1, 0), (0, 1)]
    assert removed or "memory" in str(shared.shared_inputs_folder)


def test_a_store_that_cannot_be_reached_costs_no_result(seen: Any, settings: Settings) -> None:
    away = replace(settings, shared_inputs_folder="nowhere://here/inputs", path_of=_storage_path)
    assert run(seen, away).input_count == 50
    remove_inputs(Database(seen, "detection"), away, "fleet", AT, Mode.AS_OF)
    remove_old_inputs(away)


def test_a_folder_that_cannot_be_written_costs_no_result(seen: Any, settings: Settings) -> None:
    (settings.state_dir / "inputs").write_text("no folder")
    assert run(seen, settings).input_count == 50
    arrive(seen)
    assert run(seen, settings, "2").input_count == 51
