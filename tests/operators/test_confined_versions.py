"""Versions as they run below Airflow's own task runner: their streams, environment, files and bounds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests import sample_registry
from tests.operators.executions import EXECUTIONS

from airflow_detection.domain.specs import Execution, Role

if TYPE_CHECKING:
    from tests.operators.airflow_runs import Cycles

pytestmark = pytest.mark.e2e

ENTRYPOINT = "tests.confined_models:Confined"
WAYS = (
    "print",
    "stderr",
    "__stdout__",
    "os.write",
    "C",
    "logging",
    "structlog n=3",
    "the context",
    "a subprocess",
)
MODULES = {"AIRFLOW__DETECTION__ALLOWED_MODULES": "tests.confined_models"}


def run_all(
    database: Any, cycles: Cycles, execution: Execution, does: str, *, options: Any = None, **env: str
) -> dict[str, dict[str, Any]]:
    """Run a champion and a shadow that do the same; return what each has found, by version."""
    sample_registry.put_cycle(database, execution=execution)
    sample_registry.put_model(database, "m", entrypoint=ENTRYPOINT, task_options=options or {})
    sample_registry.put_version(database, "m@1", Role.PRIMARY, does=does)
    sample_registry.put_version(database, "m@2", Role.SHADOW, does=does)
    cycles({"forked": True}, **MODULES, **env)
    query = """
        select version, outputs -> 'found' from detection.detection_model_run_outputs
          join detection.detection_model_versions using (model_id, version_id)"""
    return dict(database.execute(query).fetchall())


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_whatever_a_version_writes_is_in_the_task_log_once(
    database: Any, cycles: Cycles, capsys: pytest.CaptureFixture[str], execution: Execution
) -> None:
    found = run_all(database, cycles, execution, "prints")
    print(log := capsys.readouterr().out)
    assert sample_registry.outcomes(database) == {"m@1": "SUCCEEDED", "m@2": "SUCCEEDED"}
    for facts in found.values():
        assert facts["descriptors"] == ["/dev/null", "a pipe", "a pipe"]
        assert facts["isatty"] == [False] * 4
        assert (facts["opened"] > 2, facts["in_file"], facts["read"]) == (True, 0, "")
    for way in WAYS:
        lines = [line for line in log.splitlines() if f"line of {way} " in line]
        facts = [re.findall(r" (?:model|role|version)=(\S+)", line) for line in lines]
        assert facts == [["m", "PRIMARY", "1"], ["m", "SHADOW", "2"]], way
    assert log.count("line of warnings") == 4, "twice with its line of code"


SECRETS = {
    "AIRFLOW__API_AUTH__JWT_SECRET": "signs-tokens",
    "AIRFLOW_CONN_OTHER": "postgresql://someone:theirs@nowhere/db",
    "PGPASSWORD": "of-libpq",
    "SOME_CLOUD_KEY": "of-a-cloud",
    "ACME_KEY": "named",
}


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_version_has_the_variables_that_its_model_names_and_no_secret(
    database: Any, cycles: Cycles, execution: Execution
) -> None:
    named = {"environment": ["ACME_KEY", "PGPASSWORD", "AIRFLOW_CONN_OTHER", "AIRFLOW__API_AUTH__JWT_SECRET"]}
    if execution is Execution.TASK:  # the task of a model whose options are refused runs nothing
        named = {"environment": ["ACME_KEY"]}
    found = run_all(database, cycles, execution, "looks_for_secrets", options=named, **SECRETS)
    assert sorted(found) == ["1", "2"]
    for facts in found.values():
        assert {"PATH", "TMPDIR", "ACME_KEY"} <= set(facts["names"])
        assert not [n for n in facts["names"] if n.startswith("AIRFLOW_") and n != "AIRFLOW_HOME"]
        assert (facts["getenv"], facts["acme_key"]) == (["ACME_KEY"], "named")
        hidden = [v for n, v in SECRETS.items() if n != "ACME_KEY"]
        assert not [v for v in (*hidden, "AIRFLOW_CONN", "AIRFLOW__") if v in facts["everything"]]


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_files_of_a_version_are_in_a_folder_that_is_gone_when_it_has_ended(
    database: Any, cycles: Cycles, tmp_path: Path, execution: Execution
) -> None:
    found = run_all(database, cycles, execution, "writes_files", TMPDIR=str(tmp_path))
    assert sorted(found) == ["1", "2"]
    for facts in found.values():
        assert facts["folder"] == facts["cwd"]
        assert Path(facts["folder"]).parent == tmp_path
        assert facts["files"] == 2
    assert not list(tmp_path.glob("detection-version-*"))


BOUNDS = {
    "fills_the_disk": ("disk_limit", 8, "OSError: [Errno 27] File too large: it may write 8 MiB"),
    "allocates": ("memory_limit", 64, "MemoryError: it may allocate 64 MiB"),
    "swallows_everything": (
        "execution_timeout", 3, "TransientModelError: it had not ended after 3 s and was ended"
    ),
}  # fmt: skip


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_champion_has_the_bounds_of_its_model(database: Any, cycles: Cycles, execution: Execution) -> None:
    sample_registry.put_cycle(database, execution=execution)
    for does, (option, bound, _) in BOUNDS.items():
        options = {option: bound, "retries": 0}
        sample_registry.put_model(database, does, entrypoint=ENTRYPOINT, task_options=options)
        sample_registry.put_version(database, f"{does}@1", Role.PRIMARY, does=does)
    cycles({"forked": True}, **MODULES)
    errors = database.execute("select model_id, error from detection.detection_model_runs").fetchall()
    assert dict(errors) == {does: error for does, (_, _, error) in BOUNDS.items()}
