"""Files of exported table partitions, through Airflow's connections or by fsspec."""

from __future__ import annotations

from airflow_detection.operators.context import _storage_path, open_artifact, write_artifact
from airflow_detection.store.partitions.export import FileAccess


def partition_files() -> FileAccess:
    """Return access to the files of URIs such as `s3://conn_id@bucket/folder` and `file:///folder`."""
    return FileAccess(open=open_artifact, write=write_artifact, names=_names)


def _names(uri: str) -> list[str]:
    return sorted(path.name for path in _storage_path(uri).iterdir())
