"""The registry that Dags are made of: asked once per TTL, silent servers, changes to be confirmed."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests import sample_registry

from airflow_detection.dags.cycles import build_dag, cycle_dags
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Role
from airflow_detection.errors import RegistryUnavailable
from airflow_detection.plan_cache import file, source
from airflow_detection.plan_cache.held_back import hold_back
from airflow_detection.plan_cache.known import KnownCycle, KnownRegistry
from airflow_detection.store import confirmations, registry, roles
from airflow_detection.store.confirmations import Confirmation
from airflow_detection.store.database import Database

ROOT = Path(__file__).parents[2]
SCHEMA = "detection"
CONN_ENV = "AIRFLOW_CONN_DETECTION_DEFAULT"
AT = datetime(2026, 1, 1, tzinfo=UTC)


def connection(dsn: str, **changed: Any) -> str:
    parts = {k: v for k, v in conninfo_to_dict(dsn).items() if v is not None} | changed
    names = {"host": "host", "user": "login", "password": "password", "dbname": "schema", "port": "port"}
    fields = {names[k]: v for k, v in parts.items() if k in names}
    if "port" in fields:
        fields["port"] = int(str(fields["port"]))
    return json.dumps({"conn_type": "postgres", **fields})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", plan_ttl_s=0, allowed_prefixes=("tests.sample_registry",))


@pytest.fixture
def ten(database: Any, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cycle of ten models, reachable."""
    monkeypatch.setenv(CONN_ENV, connection(dsn))
    sample_registry.put_cycle(database)
    for number in range(10):
        sample_registry.put_model(database, f"m{number}")
        sample_registry.put_version(database, f"m{number}@1", Role.PRIMARY)
    return database


def retire(conn: Any, *numbers: int) -> None:
    for number in numbers:
        roles.assign_role(Database(conn, SCHEMA), model_id=f"m{number}", version="1", role=None)


def of_dag(settings: Settings) -> tuple[set[str], set[str], str]:
    """The tags of the Dag, its models with a version in a role, its documentation."""
    dag = cycle_dags(settings=settings)["detection_fleet"]
    rows = {line.split(" | ")[0][2:] for line in dag.doc_md.splitlines() if line.startswith("| m")}
    return dag.tags, rows - {"model"}, dag.doc_md


def test_a_change_that_removes_half_of_the_models_is_followed(ten: Any, settings: Settings) -> None:
    assert len(of_dag(settings)[1]) == 10
    retire(ten, *range(5))
    tags, models, _ = of_dag(settings)
    assert (tags, len(models)) == ({"detection"}, 5)


@pytest.mark.parametrize("lost", [6, 10])
def test_a_change_that_removes_more_than_half_waits_until_it_is_confirmed(
    ten: Any, settings: Settings, caplog: pytest.LogCaptureFixture, lost: int
) -> None:
    of_dag(settings)
    retire(ten, *range(lost))
    with caplog.at_level(logging.WARNING):
        tags, models, doc = of_dag(settings)
    assert (tags, len(models)) == ({"detection", "held back"}, 10)
    reason = f"'fleet' with {10 - lost} of its 10 models, without m0, m1, m2, m3, m4 and {lost - 5} more"
    assert reason in doc
    assert reason in caplog.text
    assert of_dag(settings) == (tags, models, doc), "it stays held back, and the same"
    assert len(confirmations.confirm(Database(ten, SCHEMA), "fleet")) == 10 - lost
    tags, models, doc = of_dag(settings)
    assert (tags, len(models)) == ({"detection"}, 10 - lost)
    assert "held back" not in doc


def test_a_held_back_change_that_is_undone_leaves_no_trace(ten: Any, settings: Settings) -> None:
    before = of_dag(settings)
    retire(ten, *range(7))
    assert "held back" in of_dag(settings)[0]
    for number in range(7):
        roles.assign_role(Database(ten, SCHEMA), model_id=f"m{number}", version="1", role=Role.PRIMARY)
    assert of_dag(settings) == before


def test_an_old_confirmation_lets_no_new_change_through(ten: Any, settings: Settings) -> None:
    confirmations.confirm(Database(ten, SCHEMA), "fleet")
    retire(ten, 0)
    assert len(of_dag(settings)[1]) == 9
    retire(ten, *range(1, 10))
    assert "held back" in of_dag(settings)[0]


def test_a_cycle_that_vanishes_is_held_back_too() -> None:
    old = KnownRegistry(read_at=1.0, cycles=(_cycle("a", 3), _cycle("b", 1)))
    followed = hold_back(old, KnownRegistry(read_at=2.0, cycles=(_cycle("b", 1),)), {})
    assert [(c.spec.cycle_id, len(c.models), bool(c.held_back_reason)) for c in followed.cycles] == [
        ("a", 3, True),
        ("b", 1, False),
    ]
    meant = {"a": Confirmation(models=frozenset(), confirmed_at=AT)}
    confirmed = hold_back(followed, KnownRegistry(read_at=3.0, cycles=(_cycle("b", 1),)), meant)
    assert [c.spec.cycle_id for c in confirmed.cycles] == ["b"]


def _cycle(cycle_id: str, models: int) -> KnownCycle:
    from tests.dags.test_cycles import cycle, model

    return cycle(*(model(f"{cycle_id}{n}") for n in range(models)), cycle_id=cycle_id)


def test_the_plan_of_one_dag_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.jsonl"
    file.write(path, KnownRegistry(read_at=1.0, cycles=(_cycle("a", 2), _cycle("b", 1))))
    known = file.read(path, "detection_b")
    assert known is not None
    assert [c.spec.cycle_id for c in known.cycles] == ["b"]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"a0", b"x0") + lines[2])
    assert file.read(path) is None, "a damaged line is found out"
    assert file.read(path, "detection_b") is not None, "and costs its own cycle alone"


def test_the_file_of_one_dag_knows_the_other_cycles_ids(tmp_path: Path) -> None:
    path, known = (
        tmp_path / "plan.jsonl",
        KnownRegistry(read_at=1.0, cycles=(_cycle("b", 1),), all_ids=("a", "b")),
    )
    file.write(path, known)
    assert file.read(path, "detection_b") == known
    assert file.read(path, "detection_a") == replace(known, cycles=())


class Counting(psycopg.Cursor[Any]):
    """A cursor that counts statements."""

    count = 0

    def execute(self, *args: Any, **rest: Any) -> Any:
        Counting.count += 1
        return super().execute(*args, **rest)


def statements(db: Database) -> tuple[int, KnownRegistry]:
    """Read the registry; return how many statements that took, and what was read."""
    db.conn.cursor_factory, Counting.count = Counting, 0
    with registry.with_shared_lock(db):
        known, _ = source.registered_now(db)
    return Counting.count, known


def test_any_number_of_cycles_is_read_in_as_many_statements_as_one(ten: Any) -> None:
    db = Database(ten, SCHEMA)
    alone, _ = statements(db)
    for number in range(64):
        sample_registry.put_cycle(ten, cycle_id=f"bay{number:02}")
        sample_registry.put_model(ten, f"tracks{number}", cycle_id=f"bay{number:02}")
        sample_registry.put_version(ten, f"tracks{number}@1", Role.PRIMARY)
    count, known = statements(db)
    assert count == alone <= 8
    assert [[m.model_id for m in c.models] for c in known.cycles[:64]] == [[f"tracks{n}"] for n in range(64)]
    ten.execute(
        "alter table detection.detection_cycles drop constraint lookback_is_at_most_36500_days;"
        "update detection.detection_cycles set lookback = '10000000 years' where cycle_id = 'bay07'"
    )
    count, known = statements(db)
    assert count <= alone * 2 * 7, "one that cannot be read is found by halves"
    assert [c.spec.cycle_id for c in known.cycles if c.refused_reason] == ["bay07"]
    assert len(known.cycles) == 65


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    asked: list[float] = []
    real = source.read_registry

    def read(*args: Any) -> Any:
        asked.append(time.monotonic())
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(source, "read_registry", read)
        yield asked


def test_the_registry_is_asked_once_per_ttl_even_while_it_does_not_answer(
    ten: Any, dsn: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = replace(settings, plan_ttl_s=3600)
    with counted(monkeypatch) as asked:
        for _ in range(3):
            cycle_dags(settings=patient)
        assert len(asked) == 1
        path = file.path_of(patient)
        old = file.read(path)
        assert old is not None
        file.write(path, replace(old, read_at=old.read_at - 7200))
        monkeypatch.setenv(CONN_ENV, connection(dsn, port=1, host="127.0.0.1"))
        tags = [cycle_dags(settings=patient)["detection_fleet"].tags for _ in range(3)]
        assert len(asked) == 2
    assert tags == [{"detection", "last known plan"}] * 3


def test_of_many_processes_one_asks_the_registry(ten: Any, dsn: str, tmp_path: Path) -> None:
    code = (
        "import logging, sys\n"
        "from airflow_detection.plan_cache import source\n"
        "real = source.read_registry\n"
        "def read(*args):\n"
        "    print('asked', flush=True)\n"
        "    return real(*args)\n"
        "source.read_registry = read\n"
        "from airflow_detection.dags.cycles import cycle_dags\n"
        "sys.stdin.readline()\n"
        "print(len(cycle_dags()['detection_fleet'].tasks))\n"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW__")}
    env |= {CONN_ENV: connection(dsn), "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__DETECTION__PLAN_TTL": "3600"}
    many = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(4)
    ]
    for process in many:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    lines = [line for process in many for line in process.communicate(timeout=120)[0].splitlines()]
    assert lines.count("asked") == 1
    assert lines.count("13") == 4


def test_a_plan_that_is_too_old_is_not_used_while_another_process_asks(ten: Any, settings: Settings) -> None:
    of_dag(settings)
    retire(ten, 0)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(len(of_dag(settings)[1])))
    with file.path_of(settings).with_suffix(".lock").open("ab") as asking:
        fcntl.flock(asking, fcntl.LOCK_EX)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive(), "it waits for what the other will read"
    thread.join()
    assert found == [9]


@contextmanager
def silent_server() -> Iterator[int]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        clients: list[socket.socket] = []
        is_over = threading.Event()

        def accept() -> None:
            server.settimeout(0.1)
            while not is_over.is_set():
                try:
                    clients.append(server.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            is_over.set()
            thread.join()
            for client in clients:
                client.close()


def test_a_server_that_accepts_and_never_answers_is_given_up_well_within_the_import_timeout(
    ten: Any, dsn: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = of_dag(settings)
    with silent_server() as port:
        monkeypatch.setenv(CONN_ENV, connection(dsn, host="127.0.0.1", port=port))
        began = time.monotonic()
        tags, models, _ = of_dag(settings)
        assert time.monotonic() - began < 8
    assert (tags, models) == ({"detection", "last known plan"}, before[1])


def test_a_registry_that_is_locked_is_given_up(ten: Any, settings: Settings) -> None:
    before = of_dag(settings)
    with registry.with_exclusive_lock(Database(ten, SCHEMA)):
        began = time.monotonic()
        assert of_dag(settings)[1] == before[1]
        assert time.monotonic() - began < 8


def test_what_takes_too_long_is_not_waited_for() -> None:
    is_over, has_ended = threading.Event(), threading.Event()

    def wait() -> None:
        is_over.wait()
        has_ended.set()

    with pytest.raises(RegistryUnavailable, match="no answer within"):
        source._within(0.2, wait)
    assert not has_ended.is_set()
    is_over.set()
    assert has_ended.wait(60)


def test_a_damaged_plan_file_is_asked_anew(ten: Any, settings: Settings) -> None:
    before = of_dag(settings)
    path = file.path_of(settings)
    path.write_bytes(path.read_bytes()[:-30])
    assert of_dag(replace(settings, plan_ttl_s=3600)) == before


def test_no_secret_of_the_connection_is_in_the_files_the_dag_or_the_log(
    ten: Any,
    dsn: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = "s3cr3t-of-the-registry"  # noqa: S105
    caplog.set_level(logging.DEBUG)
    cycle_dags(settings=settings)
    monkeypatch.setenv(CONN_ENV, connection(dsn, password=secret, host="127.0.0.1", port=1))
    dag = cycle_dags(settings=settings)["detection_fleet"]
    from airflow.serialization.serialized_objects import DagSerialization

    assert "does not answer" in caplog.text
    written = "".join(p.read_text(errors="replace") for p in settings.state_dir.iterdir())
    for place in (written, json.dumps(DagSerialization.to_dict(dag)), caplog.text):
        assert secret not in place


def test_two_cycles_that_would_share_a_dag_do_not_hide_each_other() -> None:
    from airflow_detection.dags.cycles import dags_of

    known = KnownRegistry(read_at=1.0, cycles=(_cycle("a b", 1), _cycle("a_b", 1), _cycle("c", 1)))
    dags = {dag.dag_id: dag for dag in dags_of(known)}
    assert set(dags) == {"detection_a_b", "detection_a_b_", "detection_c"}
    assert "a_b0" in dags["detection_a_b"].task_dict, "it is written like its Dag"
    assert "would have the Dag of cycle 'a_b'" in dags["detection_a_b_"].doc_md


def test_a_champions_outputs_are_an_asset_and_a_shadows_are_none() -> None:
    from tests.dags.test_cycles import cycle, model

    from airflow_detection.domain.specs import Execution

    dag = build_dag(cycle(model("tracks", shadows=("2",)), model("a/ä", "tracks")))
    assets = {t.task_id: [a.uri for a in t.outlets] for t in dag.tasks if t.outlets}
    assert assets == {
        "tracks": ["x-detection://fleet/tracks"],
        "a__": ["x-detection://fleet/a%2F%C3%A4"],
    }
    inline = build_dag(cycle(model("tracks"), model("b"), execution=Execution.INLINE))
    outlets = [asset.uri for asset in inline.task_dict["run_cycle"].outlets]
    assert outlets == ["x-detection://fleet/b", "x-detection://fleet/tracks"]
