"""The last known good plan, as a file: what the Dags are made from while the registry does not answer.

JSON with a checksum, written beside the old file and moved over it: a reader sees the old or the new one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_detection.domain import CycleSpec, Execution, ModelSpec
from airflow_detection.engine.plan import model_json, model_of

FORMAT = 1
log = logging.getLogger(__name__)
Json = dict[str, Any]  # Any: a JSON object


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCycle:
    """A registered cycle and its models, with the versions that are ACTIVE now."""

    spec: CycleSpec
    models: tuple[ModelSpec, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRegistry:
    """What the registry said at `read_at` (seconds since the epoch)."""

    read_at: float
    cycles: tuple[KnownCycle, ...] = ()

    def age_s(self, now: float) -> float:
        """Seconds since it was read; infinite when it claims to come from the future."""
        return now - self.read_at if now >= self.read_at else float("inf")


def read(path: Path) -> KnownRegistry | None:
    """The registry as last written; None when the file is missing, damaged or of another format."""
    try:
        held = json.loads(path.read_bytes())
        if held["checksum"] != _checksum(held["content"]):
            raise ValueError("the checksum does not fit")
        return _registry_from(held["content"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("the last known good plan in %s cannot be used: %s", path.name, error)
        return None


def write(path: Path, known: KnownRegistry) -> bool:
    """Replace the file; whether that worked. A directory that cannot be written to is only logged."""
    content = _registry_to(known)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"checksum": _checksum(content), "content": content}, file, sort_keys=True)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        log.warning("the last known good plan could not be written: %s", error)
        return False
    return True


def _checksum(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _registry_to(known: KnownRegistry) -> Json:
    return {
        "format": FORMAT,
        "read_at": known.read_at,
        "cycles": [
            {"spec": _spec_to(c.spec), "models": [model_json(m) for m in c.models]} for c in known.cycles
        ],
    }


def _registry_from(content: Mapping[str, Any]) -> KnownRegistry:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r} is not {FORMAT}")
    cycles = tuple(
        KnownCycle(spec=_spec_from(c["spec"]), models=tuple(model_of(m) for m in c["models"]))
        for c in content["cycles"]
    )
    return KnownRegistry(read_at=float(content["read_at"]), cycles=cycles)


def _spec_to(spec: CycleSpec) -> Json:
    return asdict(spec) | {
        "lookback": spec.lookback.total_seconds(),
        "execution": spec.execution.value,
        "start_date": spec.start_date.isoformat(),
    }


def _spec_from(held: Json) -> CycleSpec:
    return CycleSpec(
        **held
        | {
            "lookback": timedelta(seconds=held["lookback"]),
            "execution": Execution(held["execution"]),
            "start_date": datetime.fromisoformat(held["start_date"]),
        }
    )
