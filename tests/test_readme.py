"""The examples of the README are run, so that they stay true."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.specs import Cycle
from airflow_detection.engine.entrypoints import is_under
from airflow_detection.engine.model import ModelContext
from airflow_detection.registration.apply import apply_file
from airflow_detection.store.database import Database
from airflow_detection.store.registry import models_at

if TYPE_CHECKING:
    import psycopg

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = re.findall(r"^\$ airflow (detection .*|backfill .*)", README, re.MULTILINE)
BACKFILL = "backfill create --dag-id x --from-date 2026-01-01 --to-date 2026-01-02"


def block(language: str, part: str) -> str:
    return next(b for b in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if part in b)


def test_the_model_of_the_readme_scores_cards() -> None:
    names: dict[str, Any] = {}
    exec(block("python", "class LargeAmounts"), names)  # noqa: S102 - the README's own code is the subject
    cycle = Cycle(cycle_id="c", started_at=datetime(2026, 1, 1, tzinfo=UTC), lookback=timedelta(hours=1))
    inputs = Inputs.of_rows([{"card": "a", "amount": 10.0}, {"card": "b", "amount": 90.0}])
    result = names["LargeAmounts"]("large_amounts").run(
        ModelContext(cycle=cycle, params={"limit": 40}, inputs=inputs)
    )
    assert [output["score"] for _, output in result.outputs_per_input] == [0.25, 1.0]


def test_the_registry_file_of_the_readme_applies(database: psycopg.Connection[Any], tmp_path: Path) -> None:
    file = tmp_path / "registry.yaml"
    file.write_text(block("yaml", "large_amounts"))
    assert apply_file(Database(database, "detection"), file)
    assert apply_file(Database(database, "detection"), file) == []


def test_the_hand_written_dag_of_the_readme_builds() -> None:
    names: dict[str, Any] = {}
    exec(block("python", "DetectionModelOperator"), names)  # noqa: S102 - the README's own code is the subject
    assert names["dag"].task_dict["velocity"].downstream_task_ids == {"fraud_score"}


def test_the_maintenance_dag_of_the_readme_is_the_one_of_the_checkout() -> None:
    names: dict[str, Any] = {}
    exec(block("python", "maintenance_dag"), names)  # noqa: S102 - the README's own code is the subject
    assert "ensure_partitions" in names["dag"].task_dict
    ours = (Path(__file__).parents[1] / "dags" / "detection_maintenance.py").read_text()
    assert [line for line in ours.splitlines() if line and not line.startswith('"""')] == [
        line
        for line in block("python", "maintenance_dag").splitlines()
        if line and not line.startswith('"""')
    ]


def test_the_backfill_of_the_readme_has_a_plan_that_the_install_allows_to_run(
    database: psycopg.Connection[Any], tmp_path: Path
) -> None:
    file = tmp_path / "registry.yaml"
    file.write_text(block("yaml", "large_amounts"))
    apply_file(Database(database, "detection"), file)
    first = re.search(r"--from-date (\S+)", README)
    assert first
    (model,) = models_at(Database(database, "detection"), "payments", datetime.fromisoformat(first[1]))
    assert [v.label for v in model.versions] == ["large_amounts@1.0", "large_amounts@1.1"]
    allowed = re.search(r"AIRFLOW__DETECTION__ALLOWED_MODULES=(\S+)", README)
    assert allowed
    assert is_under(model.entrypoint.partition(":")[0], (allowed[1],))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_is_known_to_the_parser(command: str) -> None:
    from airflow.cli import cli_parser  # after the configuration of the test

    # a backfill's further lines hold its required options
    argv = shlex.split(BACKFILL if command.startswith("backfill") else command, comments=True)
    assert cli_parser.get_parser().parse_args(argv).func
