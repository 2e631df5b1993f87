"""Models of scikit-learn, from files of skops: nothing is unpickled."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_detection.adapters.columns import ColumnModel, Numbers, only_file, output_and_column, taken
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.errors import TerminalModelError

if TYPE_CHECKING:
    import numpy.typing as npt

METHODS = ("predict_proba", "decision_function", "score_samples", "predict")


class SklearnModel(ColumnModel):
    """A scikit-learn estimator or pipeline that skops has written.

    Params, besides those of `ColumnModel`: `output`, a method and, for `predict_proba`, the column of the
    class (`predict_proba:1` unless given); `trusted`, the types beyond those of scikit-learn, numpy and scipy
    that the file may hold.
    """

    load_params: ClassVar[tuple[str, ...]] = ("trusted",)

    @classmethod
    def load(cls, path: Path, params: JsonMapping) -> Any:  # Any: an estimator
        """Read the estimator; a type that is not trusted is refused, and so is a pickle."""
        with _skops() as skops:
            return cls._loaded(skops, path, params)

    @classmethod
    def _loaded(cls, skops: Any, path: Path, params: JsonMapping) -> Any:  # Any: `skops.io`, an estimator
        content = only_file(path, (".skops",))
        if not zipfile.is_zipfile(io.BytesIO(content)):
            raise TerminalModelError(
                "the artefact is no file of skops: pickle and joblib, which can run code, are refused"
            )
        trusted = params.get("trusted", ())
        if isinstance(trusted, str) or not all(isinstance(name, str) for name in trusted):
            raise TerminalModelError(f"params.trusted is {trusted!r}: must be a list of types")
        found = skops.get_untrusted_types(data=content)
        if unknown := sorted(set(found) - set(trusted)):
            raise TerminalModelError(
                f"params.trusted does not name types of the artefact: {', '.join(unknown)}"
            )
        return skops.loads(content, trusted=found)

    def predict(self, matrix: Numbers) -> npt.NDArray[Any]:  # Any: numbers
        """Call the estimator's method."""
        output = self.params.get("output", "predict_proba:1")
        method, column = output_and_column(output)
        estimator = self.loaded
        if method not in METHODS or not hasattr(estimator, method):
            known = ", ".join(name for name in METHODS if hasattr(estimator, name))
            raise TerminalModelError(f"params.output is {output!r}: this estimator has {known}")
        names = getattr(estimator, "feature_names_in_", None)
        if names is not None and list(names) != list(self.params["features"]):
            raise TerminalModelError(
                f"params.features are {', '.join(self.params['features'])}: trained with {', '.join(names)}"
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*valid feature names")  # they were compared above
            values = getattr(estimator, method)(matrix)
        return taken(values, column, output)


@contextmanager
def _skops() -> Iterator[Any]:  # Any: a module without types
    """Give `skops.io`, which asks modules for all of their names: those of Airflow warn, by thousands."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import skops.io

        yield skops.io


def skops_file(estimator: Any) -> bytes:  # Any: an estimator
    """Return an estimator as a file of skops: the same bytes whenever the same estimator is written.

    skops itself numbers objects by where they are in memory, and writes the time.
    """
    with _skops() as skops:
        written = skops.dumps(estimator)
    numbers: dict[str, str] = {}

    def numbered(match: re.Match[str]) -> str:
        return match[1] + numbers.setdefault(match[2], str(len(numbers)))

    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(written)) as source, zipfile.ZipFile(target, "w") as file:
        schema = re.sub(r'("__id__": |"file": ")([0-9]+)', numbered, source.read("schema.json").decode())
        members = {
            re.sub("()([0-9]+)", numbered, name, count=1): source.read(name)
            for name in source.namelist()
            if name != "schema.json"
        }
        for name, content in sorted(members.items()):
            plain = _without_gaps(content) if name.endswith(".npy") else content
            file.writestr(zipfile.ZipInfo(name), plain)
        file.writestr(zipfile.ZipInfo("schema.json"), schema)
    return target.getvalue()


def _without_gaps(content: bytes) -> bytes:
    """Return an array's file with zeros between the fields of its records, where there may be anything."""
    import numpy as np

    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.names is None:
        return content
    clean = np.zeros(array.shape, array.dtype)  # zeros_like leaves what is between fields
    for name in array.dtype.names:
        clean[name] = array[name]
    target = io.BytesIO()
    np.save(target, clean, allow_pickle=False)
    return target.getvalue()
