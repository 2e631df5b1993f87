"""Models in ONNX files."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.linear_model import LinearRegression, LogisticRegression

from airflow_detection.adapters.onnx_model import OnnxModel
from airflow_detection.engine.artifact_files import open_local
from airflow_detection.engine.model import load_once
from airflow_detection.errors import TerminalModelError
from airflow_detection.testing import ModelRun, run_model

RNG = np.random.default_rng(1)
MATRIX = RNG.normal(size=(200, 2))
LABELS = (MATRIX[:, 0] > 0.5).astype(int)
MODEL = LogisticRegression().fit(MATRIX, LABELS)
PARAMS: dict[str, Any] = {"features": ["a", "b"], "entity_key": "id", "output": "probabilities:1"}
ROWS = [{"id": str(n), "a": float(a), "b": float(b)} for n, (a, b) in enumerate(MATRIX[:50])]


def saved(tmp_path: Path, model: Any = MODEL, canaries: Any = None, *, zipmap: bool = False) -> Path:
    graph = to_onnx(model, MATRIX[:1].astype(np.float32), options={"zipmap": zipmap})
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    if canaries is None:
        return folder / "model.onnx"
    (folder / "canaries.json").write_text(json.dumps(canaries))
    with open_local(f"{folder}/") as file:
        (tmp_path / "archive").write_bytes(file.read())
    return tmp_path / "archive"


def run(artifact: Path, **params: Any) -> ModelRun:
    return run_model(OnnxModel, ROWS, params=PARAMS | params, artifact=artifact, entity_key="id")


def test_a_classifier_gives_the_probability_of_the_library_that_trained_it(tmp_path: Path) -> None:
    result = run(saved(tmp_path))
    assert list(result.scores) == pytest.approx(MODEL.predict_proba(MATRIX[:50])[:, 1].tolist(), abs=1e-5)


def test_the_last_output_is_taken_unless_one_is_named(tmp_path: Path) -> None:
    model = LinearRegression().fit(MATRIX, MATRIX[:, 0])
    graph = to_onnx(model, MATRIX[:1].astype(np.float32))
    (tmp_path / "m.onnx").write_bytes(graph.SerializeToString())
    params = {"features": ["a", "b"], "entity_key": "id", "calibration": {"from": [-5, 5]}}
    result = run_model(OnnxModel, ROWS, params=params, artifact=tmp_path / "m.onnx", entity_key="id")
    assert list(result.scores) == pytest.approx(((MATRIX[:50, 0] + 5) / 10).tolist(), abs=1e-5)


def test_columns_that_were_swapped_at_the_export_are_told_by_the_canary(tmp_path: Path) -> None:
    right = MODEL.predict_proba([[2.0, -2.0]])[0, 1]
    canaries = [{"name": "large", "row": {"a": 2.0, "b": -2.0}, "output": right}]
    (tmp_path / "right").mkdir()
    (observed,) = run(saved(tmp_path / "right", MODEL, canaries)).report.canaries
    assert observed.observed == pytest.approx(right, abs=1e-5)
    swapped = LogisticRegression().fit(MATRIX[:, ::-1], LABELS)
    with pytest.raises(AssertionError, match=r"canary 'canary:large': the score is .*, expected"):
        run(saved(tmp_path, swapped, canaries))


def _in_child(path: Path, queue: Any) -> None:
    queue.put(list(run(path).scores))


def test_a_session_that_was_made_before_a_fork_runs_behind_it(tmp_path: Path) -> None:
    """As a champion's in an inline cycle: a session with threads would wait for them for ever."""
    path = saved(tmp_path)
    load_once(OnnxModel, path, PARAMS)
    expected = list(run(path).scores)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(path, queue))
    child.start()
    try:
        assert queue.get(timeout=30) == expected
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize(
    ("params", "zipmap", "reason"),
    [
        ({"output": "score"}, False, "params.output is 'score': this graph has label, probabilities"),
        ({"output": "probabilities:2"}, False, "the output has 2 columns, from 0 on"),
        ({"output": "output_probability:1"}, True, "is no tensor: export the model with zipmap off"),
        ({"features": ["a"]}, False, "params.features are 1: this graph has 2"),
    ],
)
def test_what_the_graph_does_not_have_is_one_sentence(
    tmp_path: Path, params: Any, zipmap: Any, reason: str
) -> None:
    with pytest.raises(TerminalModelError, match=reason):
        run(saved(tmp_path, zipmap=zipmap), **params)


def test_an_input_a_feature_is_found_by_its_name(tmp_path: Path) -> None:
    columns = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("b", "a")]
    result = helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])
    nodes = [helper.make_node("Sub", ["b", "a"], ["score"])]
    graph = helper.make_model(
        helper.make_graph(nodes, "m", columns, [result]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    (tmp_path / "m.onnx").write_bytes(graph.SerializeToString())
    scores = run(tmp_path / "m.onnx", output="score", calibration={"from": [-10, 10]}).scores
    expected = (MATRIX[:50, 1] - MATRIX[:50, 0] + 10) / 20
    assert list(scores) == pytest.approx(expected.tolist(), abs=1e-5)
    with pytest.raises(TerminalModelError, match=r"params\.features are a, c: this graph has b, a"):
        run_model(
            OnnxModel, [{"id": 1, "a": 1, "c": 1}], artifact=tmp_path / "m.onnx", entity_key="id",
            params=PARAMS | {"features": ["a", "c"], "output": "score"},
        )  # fmt: skip


def test_a_file_that_is_no_graph_and_inputs_of_text_are_refused(tmp_path: Path) -> None:
    from sklearn.preprocessing import OneHotEncoder

    (tmp_path / "m.onnx").write_bytes(b"no graph")
    with pytest.raises(TerminalModelError, match="is no ONNX file that can be run: "):
        run(tmp_path / "m.onnx")
    encoder = OneHotEncoder().fit([["x", "y"], ["z", "y"]])
    graph = to_onnx(encoder, initial_types=[("given", StringTensorType([None, 2]))])
    (tmp_path / "text.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(TerminalModelError, match=r"input 'given' of the graph is tensor\(string\)"):
        run(tmp_path / "text.onnx", output=graph.graph.output[0].name)
