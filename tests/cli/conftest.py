"""Airflow's command line for the tests of commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.cli.commands import Cli, LoadedAirflow, Ran, environment


@pytest.fixture(scope="session")
def loaded_airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedAirflow]:
    airflow = LoadedAirflow(tmp_path_factory.mktemp("airflow"))
    yield airflow
    airflow.close()


@pytest.fixture
def cli(tmp_path: Path, dsn: str, loaded_airflow: LoadedAirflow) -> Cli:
    """Run commands of `airflow detection`, one after the other, against the test's database."""

    def run(*commands: Sequence[str], dsn: str = dsn, **extra: str) -> list[Ran]:
        state = {"AIRFLOW__DETECTION__STATE_DIR": str(tmp_path / "state")}
        return loaded_airflow.run(environment(tmp_path, dsn) | state | extra, commands)

    return run
