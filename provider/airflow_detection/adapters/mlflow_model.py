"""Models from an MLflow registry, as MLflow's own loader (pyfunc) makes them."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, ClassVar

import numpy as np
import numpy.typing as npt

from airflow_detection.adapters.columns import ColumnModel, Numbers, output_and_column, taken
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.artifact_files import open_path
from airflow_detection.errors import TerminalModelError

SCHEME = "models:/"
_FIXED = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>[0-9]+)")
_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")
_OF_DOWNLOAD = "registered_model_meta"  # written by the client, and no part of the model


def fixed_uri(uri: str) -> str:
    """Return `models:/name/version` of what MLflow's registry means by a URI now.

    Raises:
        ValueError: it is neither a version nor an alias.
        ImportError: MLflow is not installed.
    """
    if _FIXED.fullmatch(uri):
        return uri
    if not (alias := _ALIAS.fullmatch(uri)):
        raise ValueError(f"{uri!r} must be models:/name/version or models:/name@alias")
    from mlflow import MlflowClient

    found = MlflowClient().get_model_version_by_alias(alias["name"], alias["alias"])
    return f"{SCHEME}{found.name}/{found.version}"


@contextmanager
def open_registered(uri: str) -> Iterator[IO[bytes]]:
    """Open an archive of the files of `models:/name/version` on the server that MLFLOW_TRACKING_URI names.

    Raises:
        ValueError: the URI names no fixed version.
        ImportError: MLflow is not installed.
    """
    if not _FIXED.fullmatch(uri):
        raise ValueError("an artefact must name a fixed version, models:/name/version")
    from mlflow import artifacts

    with TemporaryDirectory() as folder:
        downloaded = Path(artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
        (downloaded / _OF_DOWNLOAD).unlink(missing_ok=True)
        with open_path(downloaded, f"{downloaded}/") as file:
            yield file


class MlflowModel(ColumnModel):
    """A model that MLflow has logged, with whatever flavour it has.

    Params, besides those of `ColumnModel`: `runs_code`, which must be true, since most flavours unpickle;
    `output`, the column of the result by its name or, where that is an array, by its number (`0`, `1`).
    """

    load_params: ClassVar[tuple[str, ...]] = ("runs_code",)

    @classmethod
    def load(cls, path: Path, params: JsonMapping) -> Any:  # Any: a pyfunc model
        """Unpack the archive, and load it by pyfunc."""
        if params.get("runs_code") is not True:
            raise TerminalModelError(
                "params.runs_code is not true: loading a model of MLflow runs code of whoever logged it"
            )
        if not tarfile.is_tarfile(path):
            raise TerminalModelError("the artefact is no folder of a model of MLflow")
        from mlflow import pyfunc

        with TemporaryDirectory() as folder:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
            return pyfunc.load_model(folder)

    def predict(self, matrix: Numbers) -> npt.NDArray[Any]:  # Any: numbers
        """Call the model with a frame of the features."""
        import pandas as pd

        frame = pd.DataFrame(matrix, columns=list(self.params["features"]), copy=False)
        given, output = self.loaded.predict(frame), self.params.get("output")
        if not isinstance(given, pd.DataFrame):
            column = output_and_column(f"output:{output}")[1] if output is not None else None
            return taken(np.asarray(given), column, str(output))
        names = [str(name) for name in given.columns]
        if output is None and len(names) == 1:
            return np.asarray(given.iloc[:, 0])
        if output not in names:
            raise TerminalModelError(f"params.output is {output!r}: this model has {', '.join(names)}")
        return np.asarray(given.iloc[:, names.index(output)])
