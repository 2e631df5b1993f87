"""Adapters beside the bare library: 100,000 rows of eight columns, from the inputs of a cycle to its outputs.

`bare` is what somebody writes by hand for the same: a matrix of the columns, the library's call, and a list
of outputs. What the engine does with them, which is the same for each model, is in neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from airflow_detection.adapters.columns import ColumnModel
from airflow_detection.adapters.onnx_model import OnnxModel
from airflow_detection.adapters.sklearn_model import SklearnModel
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.specs import Cycle
from airflow_detection.engine.model import ModelContext

ROWS, COLUMNS, REPEATS = 100_000, 8, 7
FEATURES = tuple(f"f{n}" for n in range(COLUMNS))
TREE = "sklearn.tree._tree.Tree"
Outputs = list[tuple[dict[str, Any], dict[str, Any]]]  # Any: JSON


def run() -> Iterator[dict[str, Any]]:  # Any: JSON
    """Measure a boosted and a linear model through skops, and the linear one through ONNX."""
    import skops.io
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(5000, COLUMNS))
    labels = matrix[:, 0] + matrix[:, 1] ** 2 > 1
    inputs = _inputs(rng)
    with TemporaryDirectory() as folder:
        for name, estimator in (
            ("boosted", GradientBoostingClassifier(n_estimators=50)),
            ("linear", LogisticRegression()),
        ):
            estimator.fit(matrix, labels)
            path = Path(folder) / f"{name}.skops"
            skops.io.dump(estimator, path)
            model = _model(SklearnModel, path, trusted=skops.io.get_untrusted_types(file=path))
            yield _measured(f"sklearn {name}", model, inputs, partial(_probability, estimator))
            path = Path(folder) / f"{name}.onnx"
            graph = to_onnx(estimator, matrix[:1].astype(np.float32), options={"zipmap": False})
            path.write_bytes(graph.SerializeToString())
            model = _model(OnnxModel, path, output="probabilities:1")
            yield _measured(f"onnx {name}", model, inputs, partial(_probability_of_graph, model.loaded))


def _probability(estimator: Any, matrix: Any) -> Any:  # Any: the libraries are not typed
    return estimator.predict_proba(matrix)[:, 1]


def _probability_of_graph(session: Any, matrix: Any) -> Any:  # Any: as above
    given = session.get_inputs()[0].name
    return session.run(["probabilities"], {given: matrix.astype(np.float32)})[0][:, 1]


def _inputs(rng: np.random.Generator) -> Inputs:
    columns: dict[str, tuple[Any, ...]] = {"id": tuple(map(str, range(ROWS)))}
    columns |= {name: tuple(rng.normal(size=ROWS).tolist()) for name in FEATURES}
    return Inputs(columns)


def _model(kind: type[ColumnModel], path: Path, **params: Any) -> ColumnModel:  # Any: JSON
    model = kind("bench", "1", {"features": FEATURES, "entity_key": "id", **params})
    model.artifact = path
    return model


def _measured(case: str, model: ColumnModel, inputs: Inputs, call: Callable[[Any], Any]) -> dict[str, Any]:
    """Measure the processor time of both in turn, and take the least: other processes add nothing to it."""
    cycle = Cycle(cycle_id="bench", started_at=datetime(2026, 1, 1, tzinfo=UTC), lookback=timedelta(hours=1))
    context = ModelContext(cycle=cycle, params=model.params, inputs=inputs)

    def ours() -> Outputs:
        return list(model.run(context).outputs_per_input)  # type: ignore[arg-type]

    def bare() -> Outputs:
        scores = call(np.array([inputs[name] for name in FEATURES]).T).tolist()
        return [({}, {"id": i, "score": s}) for i, s in zip(inputs["id"], scores, strict=True)]

    for (_, mine), (_, other) in zip(ours(), bare(), strict=True):
        assert mine["id"] == other["id"]
        assert abs(mine["score"] - other["score"]) < 1e-9
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(REPEATS):
        for name, function in (("ours", ours), ("bare", bare)):
            began = time.process_time()
            function()
            times[name].append((time.process_time() - began) * 1000)
    ours_ms, bare_ms = (min(times[name]) for name in ("ours", "bare"))
    return {
        "case": case, "n": ROWS, "ours_ms": round(ours_ms, 1), "bare_ms": round(bare_ms, 1),
        "ratio": round(ours_ms / bare_ms, 2), "repeats": REPEATS,
    }  # fmt: skip
