"""Commands of `airflow detection` in Airflow's own parser, for `tests.forked`: each list in one process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict


@dataclass(frozen=True)
class Ran:
    """How one command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., list[Ran]]


def environment(home: Path, dsn: str) -> dict[str, str]:
    """The environment of a command: an Airflow in `home`, and the registry's connection."""
    target = conninfo_to_dict(dsn)
    connection = {
        "conn_type": "postgres",
        "host": target.get("host"),
        "login": target.get("user"),
        "password": target.get("password"),
        "schema": target["dbname"],
        "port": int(target["port"]) if target.get("port") else None,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return kept | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW_CONN_DETECTION_DEFAULT": json.dumps(connection),
    }


def load() -> None:
    """Load Airflow's command line."""
    from airflow.cli import cli_parser

    cli_parser.get_parser()


def answer(request: dict[str, Any]) -> list[tuple[int, str, str]]:
    """Run the commands of a request one after the other, in its folder and with its environment."""
    from airflow import settings
    from airflow.cli import cli_parser

    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    settings.configure_vars()
    settings.configure_orm()
    parser = cli_parser.get_parser()
    results = []
    for argv in request["commands"]:
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                args = parser.parse_args(["detection", *argv])
                args.func(args)
            except SystemExit as ended:
                code = ended.code or 0  # type: ignore[assignment]
            except BaseException:
                code = 99
                traceback.print_exc()
        results.append((code, out.getvalue(), err.getvalue()))
    return results
