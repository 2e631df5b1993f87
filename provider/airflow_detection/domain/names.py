"""The names that a cycle has in Airflow, in one place: the Dag, the summary and the UI share them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar
from urllib.parse import quote

from airflow_detection.domain.settings import ASSET_SCHEME
from airflow_detection.domain.specs import ModelSpec, Role, VersionSpec

K = TypeVar("K")
OPEN, CLOSE, LEGACY = "open_cycle", "close_cycle", "legacy_path"
INLINE, OTHER = "run_cycle", "other_versions"
RESERVED = frozenset({OPEN, CLOSE, LEGACY, INLINE, OTHER})


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def dag_id_of(cycle_id: str) -> str:
    """The Dag of a cycle, unless another one has a better claim to it (see `dag_ids`)."""
    return _safe(f"detection_{cycle_id}")


def dag_ids(cycle_ids: Iterable[str]) -> dict[str, str]:
    """The Dag id of each cycle; where two would be the same, one of them gets a `_`.

    It goes to the cycle that is written like its Dag, so that no other can take it from it later.
    """
    written = {cycle_id: f"detection_{cycle_id}" for cycle_id in sorted(cycle_ids)}
    return _given(written, set())


def _given(written: dict[K, str], taken: set[str]) -> dict[K, str]:
    """Return a safe name of its own for each key, none of those `taken`; safe ones come first."""
    names = {}
    for key in sorted(written, key=lambda key: written[key] != _safe(written[key])):
        name = _safe(written[key])
        while name in taken:
            name += "_"
        taken.add(name)
        names[key] = name
    return names


def _written(model_id: str, version: str | None) -> str:
    return model_id if version is None else f"{model_id}__{version}"


def task_id_of(model_id: str, version: str | None = None) -> str:
    """The Airflow task id of a champion (no `version`) or of a shadow."""
    return _safe(_written(model_id, version))


def task_id(version: VersionSpec) -> str:
    """The Airflow task id of a version in its role."""
    return task_id_of(version.model_id, None if version.role is Role.PRIMARY else version.version)


def task_ids(models: Iterable[ModelSpec]) -> dict[tuple[str, str | None], str]:
    """A task id for each model and each shadow; where two would be the same, one of them gets a `_`.

    A champion comes before any shadow, and what is written like its task before what is not.
    """
    ordered = sorted(models, key=lambda m: m.model_id)
    shadows: list[tuple[str, str | None]] = [(m.model_id, v.version) for m in ordered for v in m.shadows]
    taken = set(RESERVED)
    champions: list[tuple[str, str | None]] = [(m.model_id, None) for m in ordered]
    ids: dict[tuple[str, str | None], str] = {}
    for keys in (champions, shadows):
        ids |= _given({key: _written(*key) for key in keys}, taken)
    return ids


def shard_task_ids(
    models: Iterable[ModelSpec], ids: Mapping[tuple[str, str | None], str]
) -> dict[tuple[str, str | None], str]:
    """The id of the mapped task of each version that runs in shards; its task puts them together.

    Airflow tells the states of its parts as `<id>_<number>`: neither is an id of another task.
    """
    shards = {model.model_id: model.shards for model in models if model.shards > 1}
    taken, found = {*RESERVED, *ids.values()}, {}
    for key in ids:
        if (count := shards.get(key[0], 1)) > 1:
            name = f"{ids[key]}__shards"
            while taken & {name, *(f"{name}_{n}" for n in range(count))}:
                name += "_"
            taken |= {name, *(f"{name}_{n}" for n in range(count))}
            found[key] = name
    return found


def asset_uri_of(cycle_id: str, model_id: str) -> str:
    """Name and address of the Airflow asset that stands for the outputs of a model's champion.

    Airflow leaves schemes that begin with `x-` to whoever made them: the URI of another scheme costs each
    parse a look at all providers.
    """
    return f"{ASSET_SCHEME}://{quote(cycle_id, safe='')}/{quote(model_id, safe='')}"


def is_secret_variable(name: str) -> bool:
    """Tell whether an environment variable may be no model's: Airflow's own, and those of libpq."""
    return name.upper().startswith(("AIRFLOW", "_AIRFLOW", "__AIRFLOW", "PG"))
