"""Configuration of the demo's Airflow (by environment variables alone), and the servers that it runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote, urlencode

from psycopg.conninfo import conninfo_to_dict

from demo.postgres import Databases
from demo.programs import Program
from demo.settings import CHECKOUT, Settings
from demo.state import SavedState, write_private

BIN = Path(sys.executable).parent
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
REQUESTER, APPROVER = "ana", "ben"
"""Who asks for a promotion cannot approve it: it takes two users."""
FOREIGN_PREFIXES = ("AIRFLOW", "_AIRFLOW", "PYTHONDONTWRITEBYTECODE", "PREDICTION_", "DETECTION_")


def airflow_version() -> str:
    """Return the version of the installed Airflow."""
    return version("apache-airflow-core")


def shared_environment(settings: Settings, saved: SavedState, databases: Databases) -> dict[str, str]:
    """Return the variables that reach the registry and configure Airflow; `.demo/env` exports the same."""
    address = f"http://127.0.0.1:{settings.port}"
    options = {
        ("core", "executor"): "LocalExecutor",
        ("core", "dags_folder"): str(CHECKOUT / "dags"),
        ("core", "load_examples"): "False",
        ("core", "parallelism"): "16",
        ("core", "max_active_tasks_per_dag"): "64",
        ("core", "hostname_callable"): "socket.gethostname",
        ("core", "simple_auth_manager_all_admins"): "True",
        ("core", "execution_api_server_url"): f"{address}/execution/",
        ("core", "fernet_key"): "",
        ("core", "min_serialized_dag_update_interval"): "5",
        ("database", "sql_alchemy_conn"): sqlalchemy_url(databases.metadata),
        ("database", "sql_alchemy_conn_async"): sqlalchemy_url(databases.metadata),
        ("scheduler", "scheduler_idle_sleep_time"): "0.1",
        ("scheduler", "max_dagruns_per_loop_to_schedule"): "64",
        # where the machine is busy, the usual 5 s are too few and tasks fail before they start
        ("workers", "execution_api_timeout"): "60",
        ("dag_processor", "refresh_interval"): "10",
        ("dag_processor", "min_file_process_interval"): "15",
        ("api", "host"): "127.0.0.1",
        ("api", "port"): str(settings.port),
        ("api", "base_url"): address,
        ("api", "secret_key"): saved.api_secret,
        ("api_auth", "jwt_secret"): saved.jwt_secret,
        ("logging", "base_log_folder"): str(settings.logs / "tasks"),
        ("logging", "dag_processor_child_process_log_directory"): str(settings.logs / "parsing"),
        ("logging", "colored_console_log"): "False",
    }
    reader = {}
    if databases.models is not None:
        options["detection", "reader_conn_id"] = "detection_reader"
        reader["AIRFLOW_CONN_DETECTION_READER"] = airflow_connection(databases.models)
    return {
        **{f"AIRFLOW__{section}__{key}".upper(): value for (section, key), value in options.items()},
        "AIRFLOW_HOME": str(settings.state / "airflow"),
        "AIRFLOW_CONN_DETECTION_DEFAULT": airflow_connection(databases.registry),
        **reader,
        "DETECTION_DSN": databases.registry,
        "PREDICTION_USE_MODEL_REGISTRY": "1",
    }


def users_environment(state: Path, password: str) -> dict[str, str]:
    """Return the variables by which REQUESTER and APPROVER are users of Airflow, with all rights."""
    users = (REQUESTER, APPROVER)
    passwords = state / "passwords.json"
    write_private(passwords, json.dumps(dict.fromkeys(users, password)))
    return {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:admin" for user in users),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }


def sqlalchemy_url(dsn: str) -> str:
    """Return a libpq connection string as an SQLAlchemy URL for psycopg 3 (sync and async alike)."""
    parameters = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    user, password = (
        quote(parameters.pop("user", ""), safe=""),
        quote(parameters.pop("password", ""), safe=""),
    )
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    database = quote(parameters.pop("dbname", ""), safe="")
    return f"postgresql+psycopg://{login}/{database}" + (f"?{urlencode(parameters)}" if parameters else "")


def airflow_connection(dsn: str) -> str:
    """Return a libpq connection string as the JSON form of an Airflow connection."""
    parameters = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    connection: dict[str, object] = {"conn_type": "postgres"}
    for name, key in (("host", "host"), ("user", "login"), ("password", "password"), ("dbname", "schema")):
        if name in parameters:
            connection[key] = parameters.pop(name)
    if "port" in parameters:
        connection["port"] = int(parameters.pop("port"))
    return json.dumps({**connection, "extra": parameters} if parameters else connection)


def process_environment(shared: Mapping[str, str]) -> dict[str, str]:
    """Return a child's environment: `shared`, and this process's own without another Airflow's settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_PREFIXES)}
    path = f"{BIN}{os.pathsep}{own.get('PATH', os.defpath)}"
    return {**own, **shared, "PATH": path, "PYTHONUNBUFFERED": "1"}


def airflow_program(name: str, *arguments: str, settings: Settings, env: Mapping[str, str]) -> Program:
    """Return the program `airflow <arguments>`, logging to `<name>.log`."""
    return Program(
        name=name,
        argv=[sys.executable, "-m", "airflow", *arguments],
        env=env,
        cwd=str(settings.state / "airflow"),
        log=str(settings.logs / f"{name}.log"),
    )
