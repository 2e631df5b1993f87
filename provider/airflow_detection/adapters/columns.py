"""Base of models that a library has trained: columns of the inputs in, one score a row out."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from airflow_detection.adapters.calibration import calibrated, calibration_problem
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import plain
from airflow_detection.domain.specs import Cycle
from airflow_detection.engine.artifact_files import read_member
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult
from airflow_detection.errors import TerminalModelError

Numbers = npt.NDArray[np.float64]
CANARIES = "canaries.json"
_NULLS = ("score_null", "nan")
_BATCH_ROWS = 100_000


class ColumnModel(BaseDetectionModel):
    """A model whose artefact turns numbers into one number a row.

    Params: `features`, the input columns in the order of the training; `entity_key`, the column of the
    entity; `output`, which of the artefact's outputs is taken; `calibration`, which makes a score of it;
    `null_features`: `score_null` (a row without one of its features has a null score), `nan` (the artefact
    copes with nulls) or the number that stands for them. The score is named `score`.
    """

    param_names: ClassVar[tuple[str, ...]] = (
        "features", "entity_key", "output", "calibration", "null_features",
    )  # fmt: skip

    @abstractmethod
    def predict(self, matrix: Numbers) -> npt.NDArray[Any]:  # Any: numbers of whatever type
        """Return the output of each row of a matrix whose columns are the features."""

    def run(self, ctx: ModelContext) -> ModelResult:
        """Judge each row of the inputs."""
        self._check_params()
        names, entity_key = ctx.params["features"], ctx.params["entity_key"]
        if not len(ctx.inputs):
            return ModelResult()
        matrix, is_known = self._matrix(ctx.inputs, names)
        raw = np.full(len(matrix), np.nan)
        rows = matrix if is_known.all() else matrix[is_known]
        parts = [self._predicted(rows[n : n + _BATCH_ROWS]) for n in range(0, len(rows), _BATCH_ROWS)]
        raw[is_known] = np.concatenate(parts) if parts else ()
        scores = self._scores(raw)
        entities = self._column(ctx.inputs, entity_key)
        return ModelResult(
            outputs_per_input=[
                ({}, {entity_key: entity, "score": score})
                for entity, score in zip(entities, scores, strict=True)
            ],
            features={name: ctx.inputs[name] for name in names},
        )

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """Yield the rows of `canaries.json` in the artefact's archive, with what the model gave where it was
        trained: `[{"name": "large", "row": {"amount": 900}, "output": 0.97}]`.
        """
        found = None if self.artifact is None else read_member(self.artifact, (CANARIES,))
        if found is None or found[0] == getattr(self.artifact, "name", None):
            return
        for entry in json.loads(found[1]):
            entity_id = f"canary:{entry['name']}"
            raw = entry["output"]
            (expected,) = self._scores(np.array([np.nan if raw is None else raw], dtype=np.float64))
            row = {**entry["row"], self.params["entity_key"]: entity_id}
            yield Canary(entity_id=entity_id, rows=(row,), expected=expected)

    def _check_params(self) -> None:
        known, params = (*self.param_names, *self.load_params), self.params
        features, nulls = params.get("features"), params.get("null_features", "score_null")
        reason = None
        if unknown := sorted(params.keys() - set(known)):
            reason = f"{unknown[0]} is unknown; known: {', '.join(known)}"
        elif not isinstance(features, Sequence) or isinstance(features, str) or not features:
            reason = "features must be a list of input columns"
        elif not isinstance(params.get("entity_key"), str):
            reason = "entity_key must be the name of an input column"
        elif isinstance(nulls, bool) or not (nulls in _NULLS or isinstance(nulls, (int, float))):
            reason = f"null_features is {nulls!r}: must be score_null, nan or a number"
        elif problem := calibration_problem(plain(params.get("calibration"))):
            reason = f"calibration {problem}"
        if reason:
            raise TerminalModelError(f"params of {self.model_id}@{self.version}: {reason}")

    def _matrix(self, inputs: Inputs, names: Sequence[str]) -> tuple[Numbers, npt.NDArray[np.bool_]]:
        """Return the features as numbers, and which rows the artefact is to judge."""
        matrix: Numbers = np.empty((len(inputs), len(names)), order="F")
        for number, name in enumerate(names):
            column = self._column(inputs, name)
            try:
                matrix[:, number] = column
            except (TypeError, ValueError) as error:
                raise TerminalModelError(f"input column {name!r} does not hold numbers: {error}") from error
        nulls = self.params.get("null_features", "score_null")
        is_null: npt.NDArray[np.bool_] = np.isnan(matrix)
        if nulls == "score_null":
            is_known: npt.NDArray[np.bool_] = np.logical_not(is_null.any(axis=1))
            return matrix, is_known
        if nulls != "nan":
            matrix[is_null] = nulls
        return matrix, np.ones(len(matrix), dtype=np.bool_)

    def _column(self, inputs: Inputs, name: str) -> tuple[Any, ...]:  # Any: what the input query selects
        if name not in inputs.columns:
            raise TerminalModelError(
                f"the inputs have no column {name!r}; they have {', '.join(inputs.columns)}"
            )
        return inputs[name]

    def _predicted(self, rows: Numbers) -> Numbers:
        given = np.asarray(self.predict(rows), dtype=np.float64)
        if given.shape not in ((len(rows),), (len(rows), 1)):
            shape = " x ".join(map(str, given.shape))
            raise TerminalModelError(
                f"the output has {shape} numbers for {len(rows)} rows: params.output takes one"
            )
        return given.reshape(-1)

    def _scores(self, raw: Numbers) -> list[float | None]:
        values = calibrated(raw, plain(self.params.get("calibration")))
        scores: list[float | None] = values.tolist()
        if np.isnan(values).any():
            return [None if score != score else score for score in scores]
        return scores


def only_file(path: Path, suffixes: tuple[str, ...]) -> bytes:
    """Return the bytes of the artefact, or of the one file in its archive that has such a suffix.

    Raises:
        TerminalModelError: an archive has none, or several.
    """
    try:
        found = read_member(path, suffixes)
    except ValueError as error:
        raise TerminalModelError(f"the artefact {error}") from error
    if found is None:
        raise TerminalModelError(f"the artefact has no file that ends with {' or '.join(suffixes)}")
    return found[1]


def output_and_column(output: str) -> tuple[str, int | None]:
    """Split `name:column`; the column counts from 0, None where the output is one number a row."""
    name, _, column = output.partition(":")
    if column and not column.isdecimal():
        raise TerminalModelError(f"params.output is {output!r}: must be a name, or name:column")
    return name, int(column) if column else None


def taken(values: npt.NDArray[Any], column: int | None, output: str) -> npt.NDArray[Any]:  # Any: numbers
    """Return one column of an output."""
    if column is None:
        return values
    if values.ndim != 2 or column >= values.shape[1]:
        width = values.shape[1] if values.ndim == 2 else 1
        raise TerminalModelError(f"params.output is {output!r}: the output has {width} columns, from 0 on")
    chosen: npt.NDArray[Any] = values[:, column]
    return chosen
