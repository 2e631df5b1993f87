"""Models of scikit-learn from files of skops; what could run code is refused."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from airflow_detection.adapters.sklearn_model import SklearnModel, skops_file
from airflow_detection.engine.artifact_files import open_local
from airflow_detection.errors import TerminalModelError
from airflow_detection.testing import ModelRun, run_model

RNG = np.random.default_rng(1)
MATRIX = RNG.normal(size=(200, 2))
LABELS = (MATRIX[:, 0] > 0.5).astype(int)
PARAMS: dict[str, Any] = {"features": ["a", "b"], "entity_key": "id"}
TREE = ["sklearn.tree._tree.Tree"]
ROWS = [{"id": str(n), "a": float(a), "b": float(b)} for n, (a, b) in enumerate(MATRIX[:50])]


def saved(tmp_path: Path, estimator: Any, canaries: Any = None) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    skops.io.dump(estimator, folder / "model.skops")
    if canaries is None:
        return folder / "model.skops"
    (folder / "canaries.json").write_text(json.dumps(canaries))
    with open_local(f"{folder}/") as file:
        (tmp_path / "archive").write_bytes(file.read())
    return tmp_path / "archive"


def run(artifact: Path, rows: Any = ROWS, **params: Any) -> ModelRun:
    return run_model(SklearnModel, rows, params=PARAMS | params, artifact=artifact, entity_key="id")


@pytest.mark.parametrize("canaries", [None, []])
def test_a_classifier_gives_the_probability_that_the_library_gives(tmp_path: Path, canaries: Any) -> None:
    forest = RandomForestClassifier(n_estimators=10, random_state=1).fit(MATRIX, LABELS)
    run_ = run(saved(tmp_path, forest, canaries), trusted=TREE)
    assert list(run_.scores) == forest.predict_proba(MATRIX[:50])[:, 1].tolist()


def test_reading_and_writing_a_file_makes_no_other_module_warn(tmp_path: Path) -> None:
    """skops asks each module for each of its names, and those of Airflow warn of some, by thousands."""
    artifact = saved(tmp_path, LogisticRegression().fit(MATRIX, LABELS))
    program = (
        "import sys, types, warnings\n"
        "from pathlib import Path\n"
        "class Warns(types.ModuleType):\n"
        "    def __dir__(self): return ['old']\n"
        "    def __getattribute__(self, name):\n"
        "        if not name.startswith('_'): warnings.warn(name, FutureWarning, stacklevel=2)\n"
        "        return super().__getattribute__(name)\n"
        "sys.modules['warns'] = Warns('warns')\n"
        "from airflow_detection.adapters.sklearn_model import SklearnModel, skops_file\n"
        f"skops_file(SklearnModel.load(Path({str(artifact)!r}), {{}}))\n"
    )
    command = [sys.executable, "-W", "always", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "FutureWarning" not in done.stderr


def test_the_same_estimator_gives_the_same_file_in_each_process(tmp_path: Path) -> None:
    """Places in memory, the time, and what lies between the fields of a tree's nodes are no part of it."""
    program = (
        "import sys, numpy as np\n"
        "from sklearn.ensemble import RandomForestClassifier\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler\n"
        "from airflow_detection.adapters.sklearn_model import skops_file\n"
        "others = [object() for _ in range(int(sys.argv[1]))]\n"
        "rows = np.random.default_rng(1).normal(size=(200, 2))\n"
        "forest = RandomForestClassifier(n_estimators=5, random_state=1)\n"
        "model = make_pipeline(StandardScaler(), forest).fit(rows, rows[:, 0] > 0.5)\n"
        "open(sys.argv[2], 'wb').write(skops_file(model))\n"
    )
    for count in (1, 50_000):
        path = tmp_path / f"{count}.skops"
        subprocess.run([sys.executable, "-c", program, str(count), path], check=True)
    first, second = (tmp_path / f"{count}.skops" for count in (1, 50_000))
    assert first.read_bytes() == second.read_bytes()
    forest = RandomForestClassifier(n_estimators=10, random_state=1).fit(MATRIX, LABELS)
    first.write_bytes(skops_file(forest))
    assert list(run(first, trusted=TREE).scores) == forest.predict_proba(MATRIX[:50])[:, 1].tolist()


def test_an_anomaly_model_whose_low_scores_are_bad_is_turned_round(tmp_path: Path) -> None:
    forest = IsolationForest(n_estimators=10, random_state=1).fit(MATRIX)
    params = {"output": "score_samples", "calibration": {"from": [-0.3, -0.8]}, "trusted": TREE}
    result = run(saved(tmp_path, forest), **params)
    raw = forest.score_samples(MATRIX[:50])
    assert list(result.scores) == np.clip((raw + 0.3) / -0.5, 0, 1).tolist()
    assert np.argmax(np.array(result.scores)) == np.argmin(raw)


def test_columns_that_were_swapped_at_the_export_are_told_by_the_canary(tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression())
    row = {"a": 2.0, "b": -2.0}
    right = model.fit(MATRIX, LABELS).predict_proba([[2.0, -2.0]])[0, 1]
    swapped = model.fit(MATRIX[:, ::-1], LABELS)
    path = saved(tmp_path, swapped, [{"name": "large", "row": row, "output": right}])
    with pytest.raises(AssertionError, match=r"canary 'canary:large': the score is .*, expected"):
        run(path)


def test_names_of_the_training_are_compared(tmp_path: Path) -> None:
    model = LogisticRegression().fit(MATRIX, LABELS)
    model.feature_names_in_ = np.array(["b", "a"], dtype=object)
    path = saved(tmp_path, model)
    with pytest.raises(TerminalModelError, match=r"params\.features are a, b: trained with b, a"):
        run(path)
    assert run(path, features=["b", "a"]).report.error is None


@pytest.mark.parametrize("library", [pickle, joblib])
def test_a_pickle_is_refused_and_not_read(tmp_path: Path, library: Any) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    with (tmp_path / "model.skops").open("wb") as file:
        library.dump(Trap(), file)
    with pytest.raises(
        TerminalModelError, match="is no file of skops: pickle and joblib, which can run code"
    ):
        run(tmp_path / "model.skops")
    assert not (tmp_path / "sprung").exists()


def test_a_type_must_be_trusted_by_its_name(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(np.cbrt), LogisticRegression()).fit(MATRIX, LABELS)
    model.steps[0][1].func = json.dumps
    path = saved(tmp_path, model)
    refused = r"params\.trusted does not name types of the artefact: json\.dumps"
    with pytest.raises(TerminalModelError, match=refused):
        run(path, trusted=TREE)
    with pytest.raises(
        TerminalModelError, match=r"params\.trusted is 'json\.dumps': must be a list of types"
    ):
        run(path, trusted="json.dumps")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("transform", "this estimator has predict_proba, decision_function, predict"),
        ("score_samples", "this estimator has predict_proba, decision_function, predict"),
        ("predict_proba:2", "the output has 2 columns, from 0 on"),
        ("decision_function:0", "the output has 1 columns, from 0 on"),
        ("predict_proba", "the output has 50 x 2 numbers for 50 rows"),
    ],
)
def test_an_output_that_is_not_there_is_one_sentence(tmp_path: Path, output: str, reason: str) -> None:
    with pytest.raises(TerminalModelError, match=reason):
        run(saved(tmp_path, LogisticRegression().fit(MATRIX, LABELS)), output=output)
