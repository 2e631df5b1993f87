"""Models in ONNX files, run by onnxruntime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_detection.adapters.columns import ColumnModel, Numbers, only_file, output_and_column, taken
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.errors import TerminalModelError

_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


class OnnxModel(ColumnModel):
    """An ONNX graph with one input of all features, or an input a feature, by its name.

    Params are those of `ColumnModel`; `output` is the name of an output, and the column where it has several
    numbers a row, such as `probabilities:1`. Unless it is given, the last output is taken.
    """

    @classmethod
    def load(cls, path: Path, params: JsonMapping) -> Any:  # Any: an inference session
        """Make a session without threads of its own, which would not live on in a forked process."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        content = only_file(path, (".onnx",))
        try:
            return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's own classes
            reason = str(error).splitlines()[0]
            raise TerminalModelError(f"the artefact is no ONNX file that can be run: {reason}") from error

    def predict(self, matrix: Numbers) -> npt.NDArray[Any]:  # Any: numbers
        """Run the graph."""
        session = self.loaded
        outputs = [output.name for output in session.get_outputs()]
        wanted = self.params.get("output", outputs[-1])
        name, column = output_and_column(wanted)
        if name not in outputs:
            raise TerminalModelError(f"params.output is {wanted!r}: this graph has {', '.join(outputs)}")
        (values,) = session.run([name], self._feed(session, matrix))
        if not isinstance(values, np.ndarray):
            raise TerminalModelError(f"output {name!r} is no tensor: export the model with zipmap off")
        return taken(values, column, wanted)

    def _feed(
        self, session: Any, matrix: Numbers
    ) -> dict[str, npt.NDArray[Any]]:  # Any: as the graph wants it
        inputs, features = session.get_inputs(), list(self.params["features"])
        for entry in inputs:
            if entry.type not in _TYPES:
                raise TerminalModelError(
                    f"input {entry.name!r} of the graph is {entry.type}: features are numbers"
                )
        if len(inputs) == 1:
            width = inputs[0].shape[-1]
            if isinstance(width, int) and width != len(features):
                raise TerminalModelError(f"params.features are {len(features)}: this graph has {width}")
            return {inputs[0].name: matrix.astype(_TYPES[inputs[0].type])}
        names = [entry.name for entry in inputs]
        if sorted(names) != sorted(features):
            raise TerminalModelError(
                f"params.features are {', '.join(features)}: this graph has {', '.join(names)}"
            )
        return {e.name: matrix[:, [features.index(e.name)]].astype(_TYPES[e.type]) for e in inputs}
