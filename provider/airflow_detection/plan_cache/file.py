"""The last known good plan, as a file: the Dags are made from it while the registry is not asked.

Line by line: the first names each cycle and where its own line begins, if it has one, so that a task's Dag
costs reading two lines. Each line has a checksum; the file is written beside the old one and moved over it,
so that a reader sees the old or the new one.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_detection.domain.files import replacing
from airflow_detection.domain.names import dag_ids
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import CycleSpec, Execution
from airflow_detection.engine.plan import model_json, model_of
from airflow_detection.plan_cache.known import KnownCycle, KnownRegistry

FORMAT = 3
log = logging.getLogger(__name__)
Json = dict[str, Any]  # Any: a JSON object


def path_of(settings: Settings, conn_id: str | None = None, dag_id: str | None = None) -> Path:
    """Return the plan file of one connection and schema; that of one Dag alone if `dag_id` is given."""
    name = "\0".join(filter(None, (conn_id or settings.conn_id, settings.schema, dag_id)))
    return settings.state_dir / f"cycles-{hashlib.sha256(name.encode()).hexdigest()[:12]}.jsonl"


def read(path: Path, dag_id: str | None = None) -> KnownRegistry | None:
    """Read the registry as last written, or the cycle of one Dag alone.

    None when the file is missing, damaged or of another format.
    """
    try:
        with path.open("rb") as file:
            head = _checked(file.readline())
            if head["format"] != FORMAT:
                raise ValueError(f"format {head['format']!r} is not {FORMAT}")
            start = file.tell()
            cycles, all_ids = [], tuple(cycle_id for cycle_id, _ in head["cycles"])
            known = {} if dag_id is None else dag_ids(all_ids)
            for cycle_id, offset in head["cycles"]:
                if offset is not None and (dag_id is None or known[cycle_id] == dag_id):
                    file.seek(start + offset)
                    cycles.append(_cycle_from(_checked(file.readline()), cycle_id))
        return KnownRegistry(
            read_at=float(head["read_at"]), cycles=tuple(cycles), all_ids=all_ids if dag_id else ()
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("the last known good plan in %s cannot be used: %s", path.name, error)
        return None


def write(path: Path, known: KnownRegistry) -> bool:
    """Replace the file; return whether that worked. A directory that cannot be written to is only logged."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.writelines(_lines(known))
    except OSError as error:
        log.warning("the last known good plan could not be written: %s", error)
        return False
    return True


def _lines(known: KnownRegistry) -> Iterable[bytes]:
    bodies, offset = [], 0
    offsets: dict[str, int | None] = dict.fromkeys(known.all_ids)
    for cycle in known.cycles:
        offsets[cycle.spec.cycle_id] = offset
        bodies.append(_line(_cycle_to(cycle)))
        offset += len(bodies[-1])
    head = {"format": FORMAT, "read_at": known.read_at, "cycles": list(offsets.items())}
    return [_line(head), *bodies]


def _line(content: Json) -> bytes:
    text = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"


def _checked(line: bytes) -> Json:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if hashlib.sha256(text).hexdigest().encode() != checksum:
        raise ValueError("the checksum does not fit")
    content: Json = json.loads(text)
    return content


def _cycle_to(cycle: KnownCycle) -> Json:
    return {
        "spec": _spec_to(cycle.spec),
        "models": [model_json(m) for m in cycle.models],
        "held_back": cycle.held_back_reason,
        "confirmed_at": cycle.confirmed_at,
        "refused": cycle.refused_reason,
    }


def _cycle_from(facts: Mapping[str, Any], cycle_id: str) -> KnownCycle:  # Any: JSON
    if facts["spec"]["cycle_id"] != cycle_id:
        raise ValueError(f"the line of cycle {cycle_id!r} belongs to {facts['spec']['cycle_id']!r}")
    return KnownCycle(
        spec=_spec_from(facts["spec"]),
        models=tuple(model_of(m) for m in facts["models"]),
        held_back_reason=facts["held_back"],
        confirmed_at=facts["confirmed_at"],
        refused_reason=facts["refused"],
    )


def _spec_to(spec: CycleSpec) -> Json:
    return asdict(spec) | {
        "lookback": spec.lookback.total_seconds(),
        "execution": spec.execution.value,
        "start_date": spec.start_date.isoformat(),
    }


def _spec_from(facts: Json) -> CycleSpec:
    return CycleSpec(
        **facts
        | {
            "lookback": timedelta(seconds=facts["lookback"]),
            "execution": Execution(facts["execution"]),
            "start_date": datetime.fromisoformat(facts["start_date"]),
            "tags": tuple(facts.get("tags", ())),
        }
    )
