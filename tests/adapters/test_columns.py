"""What all adapters share: columns, nulls, calibration and canaries; with an artefact of plain numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_detection.adapters.calibration import calibrated, calibration_problem
from airflow_detection.adapters.columns import ColumnModel, Numbers, only_file, output_and_column
from airflow_detection.engine.artifact_files import open_local
from airflow_detection.errors import TerminalModelError
from airflow_detection.testing import ModelRun, assert_scores, run_model


class Weighted(ColumnModel):
    """The artefact holds a weight for each feature."""

    @classmethod
    def load(cls, path: Path, params: Any) -> Any:
        return np.array(json.loads(only_file(path, (".weights",))), dtype=np.float64)

    def predict(self, matrix: Numbers) -> Any:
        return matrix @ self.loaded


PARAMS: dict[str, Any] = {"features": ["a", "b"], "entity_key": "id"}
ROWS = [
    {"id": "x", "a": 1, "b": 0.0, "c": "text"},
    {"id": "y", "a": 0.5, "b": True, "c": None},
    {"id": "z", "a": None, "b": 1.0, "c": None},
]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return archive(tmp_path, [{"name": "a", "row": {"a": 1, "b": 0}, "output": 0.25}])


def archive(tmp_path: Path, canaries: Any, weights: Any = (0.25, 0.5)) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "m.weights").write_text(json.dumps(weights))
    (folder / "canaries.json").write_text(json.dumps(canaries))
    with open_local(f"{folder}/") as file:
        (tmp_path / "archive").write_bytes(file.read())
    return tmp_path / "archive"


def run(artifact: Path, rows: Any = ROWS, **params: Any) -> ModelRun:
    return run_model(Weighted, rows, params=PARAMS | params, artifact=artifact, entity_key="id")


def test_each_row_has_a_score_and_one_that_lacks_a_feature_a_null_one(artifact: Path) -> None:
    result = run(artifact)
    assert_scores(result, {"x": 0.25, "y": 0.625, "z": None})
    assert [(c.name, c.expected, c.observed) for c in result.report.canaries] == [("canary:a", 0.25, 0.25)]
    assert {f.name: f.null_count for f in result.report.features if f.name in "ab"} == {"a": 1, "b": 0}
    assert run(artifact, rows=[]).outputs == ()


@pytest.mark.parametrize(("null_features", "expected"), [("nan", None), (0, 0.5), (1.0, 0.75)])
def test_what_stands_for_a_null_is_a_param(artifact: Path, null_features: Any, expected: Any) -> None:
    assert run(artifact, null_features=null_features).score_of("z") == expected


@pytest.mark.parametrize(
    ("calibration", "scores"),
    [
        (None, [-1.0, 0.0, 0.5, 3.0]),
        ({"from": [0, 2]}, [0.0, 0.0, 0.25, 1.0]),
        ({"from": [0.5, -0.5]}, [1.0, 0.5, 0.0, 0.0]),
        ({"sigmoid": [0, 1]}, [1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(-3))]),
        ({"points": [[-1, 0], [0, 0.2], [1, 1]]}, [0.0, 0.2, 0.6, 1.0]),
    ],
)
def test_a_calibration_makes_a_score_of_an_output(calibration: Any, scores: list[float]) -> None:
    raw = np.array([-1.0, 0.0, 0.5, 3.0, np.nan])
    assert calibration_problem(calibration) is None
    assert calibrated(raw, calibration).tolist()[:-1] == pytest.approx(scores)
    assert np.isnan(calibrated(raw, calibration)[-1])


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"features": []}, "features must be a list of input columns"),
        ({"features": "a"}, "features must be a list of input columns"),
        ({"entity_key": None}, "entity_key must be the name of an input column"),
        ({"feature": []}, "feature is unknown; known: features, entity_key"),
        ({"null_features": "zero"}, "null_features is 'zero': must be score_null, nan or a number"),
        ({"null_features": True}, "null_features is True: must be score_null, nan or a number"),
        ({"calibration": {}}, "calibration is {}: must be one of from, sigmoid, points"),
        ({"calibration": {"log": 1}}, "calibration has 'log': must be one of from, sigmoid, points"),
        ({"calibration": {"from": [1, 1]}}, "calibration from is [1, 1]: the two numbers must differ"),
        ({"calibration": {"from": 1}}, "calibration from is 1: must be two numbers"),
        ({"calibration": {"sigmoid": [1, 0]}}, "calibration sigmoid is [1, 0]: the scale must not be 0"),
        ({"calibration": {"points": [[0, 0]]}}, "must be two pairs of numbers at least"),
        ({"calibration": {"points": [[1, 0], [0, 1]]}}, "points must rise in their first number"),
        (
            {"calibration": {"points": [[0, 0], [1, 1], [2, 0.5]]}},
            "points must rise, or fall, in their score",
        ),
        ({"calibration": {"points": [[0, 0], [1, 2]]}}, "points must have scores from 0 to 1"),
        ({"features": ["a", "d"]}, "the inputs have no column 'd'; they have id, a, b, c"),
        ({"features": ["a", "c"]}, "input column 'c' does not hold numbers: "),
    ],
)
def test_params_that_cannot_be_used_are_one_sentence(artifact: Path, params: Any, reason: str) -> None:
    with pytest.raises(TerminalModelError) as raised:
        run(artifact, **params)
    assert reason in str(raised.value)


def test_columns_that_were_swapped_are_told_by_the_canary(tmp_path: Path) -> None:
    path = archive(tmp_path, [{"name": "a", "row": {"a": 1, "b": 0}, "output": 0.5}])
    with pytest.raises(AssertionError, match=r"canary 'canary:a': the score is 0\.25, expected 0\.5"):
        run(path)


def test_a_canary_is_calibrated_like_any_row_and_may_be_null(tmp_path: Path) -> None:
    path = archive(
        tmp_path,
        [
            {"name": "a", "row": {"a": 1, "b": 0}, "output": 0.25},
            {"name": "unknown", "row": {"a": 1}, "output": None},
        ],
    )
    result = run(path, calibration={"from": [0, 0.5]})
    assert [(c.name, c.observed) for c in result.report.canaries] == [
        ("canary:a", 0.5), ("canary:unknown", None),
    ]  # fmt: skip


def test_an_archive_without_the_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "other.txt").write_text("")
    with open_local(f"{tmp_path}/model/") as file:
        (tmp_path / "archive").write_bytes(file.read())
    with pytest.raises(TerminalModelError, match=r"the artefact has no file that ends with \.weights"):
        run(tmp_path / "archive")
    with pytest.raises(TerminalModelError, match="must be a name, or name:column"):
        output_and_column("a:b")


def test_an_output_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TerminalModelError, match="the output has 3 x 2 numbers for 3 rows"):
        run(archive(tmp_path, [], [[0.1, 0.2], [0.1, 0.2]]), null_features=0)
