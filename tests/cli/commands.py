"""Commands of `airflow detection` in Airflow's own parser, each list in a process of its own.

The processes are forked from one that has Airflow loaded, for that is most of the time a command takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

TIMEOUT_S = 120


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


class LoadedAirflow:
    """A process with Airflow's command line loaded, in `home`, that forks one process for each list."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.commands"],
            env=environment(home, "dbname=none"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, env: Mapping[str, str], commands: Sequence[Sequence[str]]) -> list[Ran]:
        """Run the commands one after the other in one process with this environment."""
        assert self._process.stdin
        assert self._process.stdout
        request = json.dumps([str(Path.cwd()), dict(env), [list(argv) for argv in commands]])
        print(request, file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        assert isinstance(answer, list), answer
        return [Ran(*result) for result in answer]

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=TIMEOUT_S)


def serve() -> None:
    """Answer each line of the input, a JSON list of folder, environment and commands, with a line."""
    from airflow.cli import cli_parser

    parser = cli_parser.get_parser()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a command writes to the descriptor itself
    for line in sys.stdin:
        folder, env, commands = json.loads(line)
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            os.chdir(folder)
            _answer(parser, env, commands, writer)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            answer = pipe.read()
        _, status = os.waitpid(child, 0)
        print(answer or json.dumps(f"ended with {status}"), file=answers, flush=True)


def _answer(parser: object, env: Mapping[str, str], commands: Sequence[Sequence[str]], writer: int) -> None:
    """Run commands in this process, write their results to a pipe, and end."""
    import contextlib
    import io
    import signal
    import traceback

    from airflow import settings

    signal.alarm(TIMEOUT_S)
    os.environ.clear()
    os.environ.update(env)
    settings.configure_vars()
    settings.configure_orm()
    results = []
    for argv in commands:
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                args = parser.parse_args(["detection", *argv])  # type: ignore[attr-defined]
                args.func(args)
            except SystemExit as ended:
                code = ended.code or 0  # type: ignore[assignment]
            except BaseException:
                code = 99
                traceback.print_exc()
        results.append([code, out.getvalue(), err.getvalue()])
    with os.fdopen(writer, "w") as pipe:
        json.dump(results, pipe)
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    serve()
