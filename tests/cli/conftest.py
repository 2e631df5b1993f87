"""Airflow's command line for the tests of commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.cli.commands import Cli, Ran, environment
from tests.forked import ForkServer


@pytest.fixture(scope="session")
def loaded_airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    airflow = ForkServer("tests.cli.commands", environment(tmp_path_factory.mktemp("airflow"), "dbname=none"))
    yield airflow
    airflow.close()


@pytest.fixture
def cli(tmp_path: Path, dsn: str, loaded_airflow: ForkServer) -> Cli:
    """Run commands of `airflow detection`, one after the other, against the test's database."""

    def run(*commands: Sequence[str], dsn: str = dsn, **extra: str) -> list[Ran]:
        state = {"AIRFLOW__DETECTION__STATE_DIR": str(tmp_path / "state")}
        request = {
            "folder": str(Path.cwd()),
            "env": environment(tmp_path, dsn) | state | extra,
            "commands": [list(argv) for argv in commands],
        }
        return [Ran(*result) for result in loaded_airflow.ask(request)]

    return run
