"""Tasks connect without PostgresHook, to the same effect; parsing connects as tasks do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import Connection
from psycopg.conninfo import conninfo_to_dict
from tests import sample_registry
from tests.operators.airflow_runs import airflow_uri, environment
from tests.sample_registry import AT, SETTINGS

from airflow_detection.cycle import planning
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.specs import Mode, Outcome
from airflow_detection.errors import RegistryUnavailable
from airflow_detection.hooks import connection as hook_connection
from airflow_detection.hooks.connection import IGNORED_EXTRAS, conninfo
from airflow_detection.hooks.detection import DetectionHook
from airflow_detection.store import connection
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database

EXTRAS = {
    "sslmode": "disable",
    "options": "-c work_mem=7MB",
    "connect_timeout": 11,
    "application_name": "watch",
    "sqlalchemy_scheme": "postgresql+psycopg",
}
BOTH = """
import json, sys
from airflow_detection.hooks import connection
HOOK = "airflow.providers.postgres.hooks.postgres"
def facts(conn):
    names = ("TimeZone", "default_transaction_read_only", "work_mem", "application_name")
    shown = {name: conn.execute(f"show {name}".encode()).fetchone()[0] for name in names}
    return [conn.autocommit, shown, conn.info.get_parameters()]
sessions = []
for read_only in (False, True):
    with connection.connect("detection_default", read_only=read_only) as conn:
        sessions.append(facts(conn))
is_light = HOOK not in sys.modules
from airflow_detection.hooks.detection import DetectionHook
for read_only in (False, True):
    with DetectionHook().connect(read_only=read_only) as conn:
        sessions.append(facts(conn))
errors = []
for connect in (connection.connect, lambda name: DetectionHook(name).connect()):
    for name in ("missing", "malformed", "refused"):
        try:
            connect(name)
        except Exception as error:
            errors.append([type(error).__name__, str(error)])
print(json.dumps([is_light, sessions, errors]))
"""


def output_of(home: Path, code: str, **env: str) -> Any:
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(home, **env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def test_a_task_connects_as_the_hook_does_without_importing_it(tmp_path: Path, dsn: str) -> None:
    good = json.loads(airflow_uri(dsn))
    is_light, (task, task_reading, hook, hook_reading), errors = output_of(
        tmp_path,
        BOTH,
        AIRFLOW_CONN_DETECTION_DEFAULT=json.dumps(good | {"extra": EXTRAS}),
        AIRFLOW_CONN_MALFORMED=json.dumps(good | {"extra": {"no_such_option": "1"}}),
        AIRFLOW_CONN_REFUSED=json.dumps(good | {"schema": "no_such_database"}),
    )
    assert is_light
    assert (task, task_reading) == (hook, hook_reading)
    assert task[0] is True
    assert task[1] == {
        "TimeZone": "UTC",
        "default_transaction_read_only": "off",
        "work_mem": "7MB",
        "application_name": "watch",
    }
    assert task_reading[1] == task[1] | {"default_transaction_read_only": "on"}
    assert {k: task[2][k] for k in ("sslmode", "connect_timeout")} == {
        "sslmode": "disable",
        "connect_timeout": "11",
    }
    assert errors[:3] == errors[3:]
    assert [name for name, _ in errors[:3]] == [
        "ConfigurationError",
        "ConfigurationError",
        "RegistryUnavailable",
    ]


def test_the_extras_kept_from_libpq_are_those_of_the_hook() -> None:
    assert set(PostgresHook.ignored_extra_options) == IGNORED_EXTRAS


def test_extras_that_the_driver_does_not_know_are_left_out() -> None:
    class AirflowConnection:
        host, port, login, password, schema = "db", 5433, "me", None, "registry"
        extra_dejson = {"sslmode": "require", "iam": True}

    options = conninfo_to_dict(conninfo(AirflowConnection()))
    assert options == {"host": "db", "port": "5433", "user": "me", "dbname": "registry", "sslmode": "require"}


def test_parsing_and_tasks_pass_on_the_same_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    extras = {"sslcrl": "/etc/ssl/revoked.crl", "keepalives_idle": 30, "krbsrvname": "pg"}
    fields = {"host": "db", "port": 5433, "login": "me", "password": "pw", "schema": "registry"}
    value = json.dumps({"conn_type": "postgres", **fields, "extra": extras})
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", value)
    passed: list[dict[str, Any]] = []

    def refuse(**arguments: Any) -> None:
        passed.append(arguments)
        raise psycopg.OperationalError("refused")

    parsing = conninfo_to_dict(conninfo(Connection.get("detection_default")))
    with monkeypatch.context() as patch:
        patch.setattr(psycopg, "connect", refuse)
        with pytest.raises(RegistryUnavailable, match="refused"):
            hook_connection.connect("detection_default")
    assert {name: parsing[name] for name in extras} == {name: str(extra) for name, extra in extras.items()}
    (task,) = passed
    assert {name: task[name] for name in extras} == extras
    assert task.pop("connect_timeout") == 5
    assert {name: str(argument) for name, argument in task.items()} == parsing


@pytest.mark.parametrize("opener", ["task", "hook"])
def test_another_connection_like_an_open_one_has_all_its_hosts_and_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dsn: str, opener: str
) -> None:
    """As parsing reads the same Airflow connection: so a reconnection finds the server that took over."""
    fields = json.loads(airflow_uri(dsn))
    extras = {"target_session_attrs": "read-write", "keepalives_idle": 7, "tcp_user_timeout": 9000}
    value = fields | {"host": f"{tmp_path},{fields['host']}", "extra": extras | {"connect_timeout": 11}}
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", json.dumps(value))
    connect_it = hook_connection.connect if opener == "task" else lambda name: DetectionHook(name).connect()
    with connect_it("detection_default") as conn:
        again = connection.conninfo_of(conn)
        assert conninfo_to_dict(again) == conninfo_to_dict(conninfo(Connection.get("detection_default")))
    options = conninfo_to_dict(again)
    assert (options["host"], options["connect_timeout"]) == (value["host"], "11")
    with connect(again) as second:
        assert conninfo_to_dict(connection.conninfo_of(second)) == options
        assert second.info.get_parameters()["target_session_attrs"] == "read-write"


@pytest.mark.parametrize("opener", ["task", "hook"])
def test_a_service_says_what_the_airflow_connection_leaves_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dsn: str, opener: str
) -> None:
    parts = conninfo_to_dict(dsn)
    lines = ["[registry]", *(f"{name}={parts[name]}" for name in ("host", "dbname", "user"))]
    (tmp_path / "services").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    empty = {"conn_type": "postgres", "host": "", "schema": "", "extra": {"service": "registry"}}
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", json.dumps(empty))
    connect_it = hook_connection.connect if opener == "task" else lambda name: DetectionHook(name).connect()
    with connect_it("detection_default") as conn:
        assert conn.info.dbname == parts["dbname"]
        again = conninfo_to_dict(connection.conninfo_of(conn))
    assert again == {"service": "registry", "connect_timeout": "5"}
    assert conninfo_to_dict(conninfo(Connection.get("detection_default"))) == {"service": "registry"}


def test_a_connection_whose_extras_need_the_hook_is_opened_by_it(tmp_path: Path, dsn: str) -> None:
    code = (
        "import json\n"
        "from airflow_detection.hooks import connection\n"
        "with connection.connect('detection_default') as conn:\n"
        "    print(json.dumps(conn.execute('select 1 as one').fetchone()))\n"
    )
    fields = json.loads(airflow_uri(dsn)) | {"extra": {"cursor": "dictcursor"}}
    assert output_of(tmp_path, code, AIRFLOW_CONN_DETECTION_DEFAULT=json.dumps(fields)) == {"one": 1}


def test_each_version_reads_through_a_session_of_its_own(database: Any, dsn: str) -> None:
    sample_registry.register(database)
    planning.open_cycle(Database(database, SETTINGS.schema), "fleet", AT, mode=Mode.AS_OF)
    asked_for: list[str] = []
    for model_id in ("tracks", "spoofing"):

        def conninfo(name: str = model_id) -> str:
            asked_for.append(name)
            return dsn

        request = VersionRequest(cycle_id="fleet", started_at=AT, model_id=model_id)
        report = run_task(Database(database, SETTINGS.schema), SETTINGS, request, reader_conninfo=conninfo)
        assert report.outcome is Outcome.SUCCEEDED
    assert asked_for == ["tracks", "spoofing"]
    assert database.execute("show default_transaction_read_only").fetchone() == ("off",)


@pytest.mark.parametrize("conn_type", ["detection", "postgres"])
def test_the_test_button_says_what_stands_behind_the_connection(
    monkeypatch: pytest.MonkeyPatch, dsn: str, conn_type: str
) -> None:
    connection = json.loads(airflow_uri(dsn)) | {"conn_type": conn_type}
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", json.dumps(connection))
    is_ready, message = DetectionHook().test_connection()
    assert is_ready, message
    assert re.fullmatch(
        r"PostgreSQL \d+\.\d+: schema 'detection' is at this version,"
        r" models read with the login's own rights",
        message,
    )


def test_the_test_button_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, dsn: str, empty_dsn: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", airflow_uri(empty_dsn))
    is_ready, message = DetectionHook().test_connection()
    assert not is_ready
    assert message.startswith("schema 'detection' lacks migrations (0001_registry to ")
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", airflow_uri(dsn))
    monkeypatch.setenv("AIRFLOW__DETECTION__READER_ROLE", "nobody_here")
    is_ready, message = DetectionHook().test_connection()
    assert not is_ready
    assert 'role "nobody_here" does not exist' in message
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", airflow_uri("host=127.0.0.1 port=1 dbname=none"))
    is_ready, message = DetectionHook().test_connection()
    assert (is_ready, message[:29]) == (False, "no connection to the registry")
