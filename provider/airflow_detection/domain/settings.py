"""The settings of the package, checked when they are made."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_detection.errors import ConfigurationError

SECTION = "detection"
ASSET_SCHEME = "x-detection"
"""The scheme of the URIs of assets."""
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting; its default is the one that `config.OPTIONS` declares.

    `statement_timeout_s` None leaves the server's own. `inline_timeout_s`, `inline_memory_mib`
    and `inline_disk_mib` bound a version whose model sets no limits; `inline_preload` names modules that the
    task of an inline cycle imports once for all versions. `training_timeout_s` bounds a training step.
    `reader_role` None leaves the login's own rights;
    `reader_conn_id` None lets models read through the connection of the registry.
    `shared_inputs_mib` is the size from which a task keeps a cycle's input rows for the tasks of its other
    versions; None keeps none. They are in `state_dir`, or in `shared_inputs_folder`, a folder that all
    machines have or one of an object store; `path_of` gives the path of such a URI.
    `artifact_cache` is the folder of the artefacts of versions, which take `artifact_cache_mib` at most.
    `page_timeout_s` and `comparison_timeout_s` bound a statement of the pages in Airflow's UI.
    `snaps_manual_runs`: a manual run between two ticks of its cycle is taken for the tick before it.
    `asset_partition_keys`: the event of a champion's asset has its cycle as partition key.
    `promotion_four_eyes` keeps whoever asks for a promotion from approving it.
    `allowed_prefixes` are the modules from which an entry point `module:Class` may come.
    """

    schema: str = "detection"
    allowed_prefixes: tuple[str, ...] = ()
    statement_timeout_s: float | None = None
    state_dir: Path = Path("detection")
    plan_ttl_s: float = 30.0
    artifact_cache: Path = Path("detection/artifacts")
    artifact_cache_mib: float = 4096.0
    inline_timeout_s: float = 600.0
    inline_memory_mib: float | None = None
    inline_disk_mib: float | None = 256.0
    shared_inputs_mib: float | None = None
    shared_inputs_folder: str | None = None
    path_of: Callable[[str], Any] = Path  # Any: a path of a library for object stores
    inline_preload: tuple[str, ...] = ("numpy",)
    training_timeout_s: float = 3600.0
    reader_role: str | None = None
    conn_id: str = "detection_default"
    reader_conn_id: str | None = None
    promotion_four_eyes: bool = True
    snaps_manual_runs: bool = False
    asset_partition_keys: bool = False
    page_timeout_s: float = 5.0
    comparison_timeout_s: float = 20.0

    def __post_init__(self) -> None:
        if not _SCHEMA.fullmatch(self.schema):
            raise ConfigurationError(
                f"[{SECTION}] schema is {self.schema!r}: must be 1 to 63 characters of a-z, 0-9 and _, "
                "the first not a digit"
            )
        for prefix in self.allowed_prefixes:
            if not _MODULE.fullmatch(prefix):
                raise ConfigurationError(
                    f"[{SECTION}] allowed_modules has {prefix!r}: must be a module such as acme.detectors"
                )
        if self.inline_timeout_s <= 0:
            raise ConfigurationError(
                f"[{SECTION}] inline_timeout is {self.inline_timeout_s:g}: must be above 0 seconds"
            )
        if self.training_timeout_s <= 0:
            raise ConfigurationError(f"[{SECTION}] training_timeout is 0: must be above 0 seconds")
        if self.artifact_cache_mib <= 0:
            raise ConfigurationError(f"[{SECTION}] artifact_cache_size is 0: must be above 0 MiB")
        for name in ("page_timeout", "comparison_timeout"):
            if getattr(self, f"{name}_s") <= 0:
                raise ConfigurationError(f"[{SECTION}] {name} is 0: must be above 0 seconds")
        if not self.conn_id:
            raise ConfigurationError(f"[{SECTION}] conn_id is '': must be the id of an Airflow connection")
