"""The wheel as it is installed: without extras, in an empty environment and folder, on each Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from demo.embedded_postgres import find_binaries
from demo.errors import DemoError
from psycopg.conninfo import make_conninfo
from tests.cli.commands import Ran, environment
from tests.postgres import embedded

ROOT = Path(__file__).parents[2]
NEXT_AIRFLOW = ">=3.4.0a0,<3.5"
AT = "2026-01-11T12:00:00Z"
TIMEOUT_S = 600
DRIVER = """
import contextlib, io, json, sys, traceback
from airflow.cli import cli_parser
parser = cli_parser.get_parser()
done = []
for argv in json.load(sys.stdin):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            args = parser.parse_args(["detection", *argv])
            args.func(args)
        except SystemExit as exit:
            code = exit.code or 0
        except BaseException:
            code = 99
            traceback.print_exc()
    done.append([code, out.getvalue(), err.getvalue()])
print("\\nRESULTS" + json.dumps(done))
"""
LEAVES = """
import json
from airflow.cli.cli_config import GroupCommand
from airflow_detection.cli.definition import get_commands
def leaves(commands, above=()):
    for command in commands:
        path = (*above, command.name)
        if isinstance(command, GroupCommand):
            yield from leaves(command.subcommands, path)
        else:
            yield path
print("\\nRESULTS" + json.dumps([path[1:] for path in leaves(get_commands())]))
"""
BEFORE: Sequence[Sequence[str]] = (
    ("example", "payments"),
    ("db", "migrate"),
    ("db", "migrate", "--check"),
    ("apply", "--dry-run", "payments/registry.yaml"),
    ("apply", "payments/registry.yaml"),
    ("labels", "load", "payments/labels.csv", "--cycle", "payments", "--source", "generator"),
    ("labels", "list", "payments"),
)
AFTER: Sequence[Sequence[str]] = (
    ("partitions", "plan"),
    ("partitions", "apply"),
    ("versions",),
    ("plan", "payments", "--at", AT),
    ("compare", "fraud_score@1.0", "fraud_score@1.1", "--from", "2026-01-11", "--to", "2026-01-12"),
    ("events",),
    ("snapshot",),
    ("snapshot", "--diagnostic"),
    ("export",),
    ("replay", "payments", "--versions", "fraud_score@1.1", "--from", "2026-01-11", "--to", "2026-01-12"),
    ("promote", "velocity@1.1", "--force"),
    ("promotions", "list"),
    ("confirm", "payments"),
    ("db", "migrate", "--pack", "maritime"),
    ("ais", "simulate", "day.csv", "--start", "2025-01-01", "--hours", "1"),
    ("ais", "load", "day.csv"),
    ("grants",),
    ("check",),
)


def python_of(version: str) -> str:
    """Return an interpreter of this version: the running one, one on PATH, or one of pyenv."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for path in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))):
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return str(path)
    return missing(f"Python {version} is not installed here")


def missing(what: str) -> str:
    """Skip the test for want of something; where CI is set, fail it."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@dataclass(frozen=True)
class Installation:
    """An environment with the wheel, a folder, and a database."""

    python: Path
    folder: Path
    env: Mapping[str, str]

    def run(self, *argv: str, stdin: str = "") -> str:
        """Run the environment's Python in the folder; return what it printed."""
        done = subprocess.run(
            [self.python, *argv], cwd=self.folder, env=self.env, input=stdin, capture_output=True, text=True,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{argv}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    def detection(self, *commands: Sequence[str]) -> list[Ran]:
        """Run commands of `airflow detection`, one after the other; none ends with an error."""
        out = self.run("-c", DRIVER, stdin=json.dumps([list(argv) for argv in commands]))
        done = [Ran(*result) for result in json.loads(out.rpartition("RESULTS")[2])]
        for argv, ran in zip(commands, done, strict=True):
            assert ran.code == 0, f"{argv}: {ran.out}{ran.err}"
            assert "Traceback" not in ran.err, f"{argv}: {ran.err}"
        return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def uv_program() -> str | None:
    """Return the path of uv, of this environment or on PATH."""
    return shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def install(
    version: str, wheel: Path, folder: Path, *more: str, constraints: Path = ROOT / "constraints.txt"
) -> Path:
    """Install the wheel, without extras, and more into an environment of its own; return its Python."""
    uv = uv_program()
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    python = folder / "bin" / "python"
    if uv:
        commands = [
            [uv, "venv", "--quiet", "--python", python_of(version), str(folder)],
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)],
        ]
    else:
        commands = [
            [python_of(version), "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet"],
        ]
    commands[1] += ["-c", str(constraints), str(wheel), *more]
    for command in commands:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return python


def install_next(version: str, wheel: Path, folder: Path) -> Path:
    """Install the wheel with the next minor version of Airflow, or what there is of it before its release.

    Its own requirement leaves that version out until it is supported, and the pins are those of this one.
    """
    if uv_program() is None:
        return missing("uv, which can override a requirement, is not installed here")
    overrides, none = folder.with_name("overrides.txt"), folder.with_name("none.txt")
    overrides.write_text(f"apache-airflow{NEXT_AIRFLOW}\n")
    none.write_text("")
    options = ("--prerelease", "allow", "--override", str(overrides))
    try:
        return install(version, wheel, folder, *options, constraints=none)
    except AssertionError as error:
        if "only apache-airflow<" not in str(error) and "no version of apache-airflow" not in str(error):
            raise
        return missing(f"no Airflow {NEXT_AIRFLOW} is in the package index")


@contextmanager
def database(major: int) -> Iterator[str]:
    """Connection string of a new database on a server of this major version."""
    try:
        find_binaries(major)
    except DemoError:
        missing(f"PostgreSQL {major} is not installed here")
    with embedded(major, is_durable=False) as server:
        name = f"detection_installed_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(psycopg.sql.SQL("create database {}").format(psycopg.sql.Identifier(name)))
        yield make_conninfo(server, dbname=name)


@pytest.fixture(
    params=[("3.11", 15, install), ("3.12", 18, install), ("3.13", 18, install), ("3.12", 18, install_next)],
    ids=["python3.11-postgres15", "python3.12-postgres18", "python3.13-postgres18", "next-airflow"],
)
def installation(request: pytest.FixtureRequest, wheel: Path, tmp_path: Path) -> Iterator[Installation]:
    """The wheel on a Python and an Airflow, in front of a PostgreSQL."""
    version, major, install_into = request.param
    python_of(version)
    with database(major) as dsn:
        python = install_into(version, wheel, tmp_path / "venv")
        folder = tmp_path / "empty"
        folder.mkdir()
        env = environment(tmp_path / "airflow", dsn) | {
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "payments" / "dags"),
            "AIRFLOW__DETECTION__ALLOWED_MODULES": "payments",
            "PREDICTION_USE_MODEL_REGISTRY": "1",
            "PYTHONPATH": str(folder),
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "DSN": dsn,
        }
        yield Installation(python=python, folder=folder, env=env)


@pytest.mark.long
@pytest.mark.matrix
def test_a_wheel_without_extras_runs_a_cycle_the_maintenance_dag_and_every_command(
    installation: Installation,
) -> None:
    names = [tuple(path) for path in json.loads(installation.run("-c", LEAVES).rpartition("RESULTS")[2])]
    helps = installation.detection(*((*path, "--help") for path in names))
    assert all(ran.out.startswith("Usage: airflow detection") for ran in helps)

    installation.run("-m", "airflow", "db", "migrate")
    installation.detection(*BEFORE)
    made = installation.run("-m", "payments.generate", installation.env["DSN"])
    assert made == "8156 of 8156 payments are new, with 18 frauds on 2026-01-11\n"
    installation.run("-m", "airflow", "dags", "test", "detection_payments", AT)
    installation.run("-m", "airflow", "dags", "test", "detection_maintenance")
    span = {"start": "2026-01-11T00:00:00Z", "end": "2026-01-12T00:00:00Z"}
    replay = json.dumps({"cycle": "payments", "versions": ["velocity@1.1"], **span})
    installation.run("-m", "airflow", "dags", "test", "detection_replay", "--conf", replay)

    with psycopg.connect(installation.env["DSN"]) as conn:
        ran = conn.execute(
            "select model_id || '@' || version, outcome from detection.detection_run_results"
            " where not is_replay order by 1"
        ).fetchall()
        assert [label for label, _ in ran] == [
            "fraud_score@1.0", "fraud_score@1.1", "two_countries@1.0", "unusual_amount@1.0", "velocity@1.0",
            "velocity@1.1",
        ]  # fmt: skip
        assert {outcome for _, outcome in ran} == {"SUCCEEDED"}
        replays = conn.execute(
            "select count(*) from detection.detection_model_runs where is_replay"
        ).fetchone()
        assert replays == (1,)
        assert conn.execute("select count(*) from detection.detection_snapshots").fetchone() == (1,)
        found = conn.execute("select count(*) from detection.detection_open_events").fetchone()
        assert found is not None
        assert found[0] > 0
    installation.detection(*AFTER)
