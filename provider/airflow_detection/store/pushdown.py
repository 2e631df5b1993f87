"""Outputs of a SQL model: selected and stored by the database, with no row through this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from airflow_detection.domain import ModelSpec, SelectedOutputs
from airflow_detection.errors import RegistryUnavailable, TerminalModelError
from airflow_detection.store.connection import Connection
from airflow_detection.store.queries import load_queries, named

_COUNTS = ("scored", "gt0", "gt03", "gt05", "gt07")
_INSERT = (
    "insert into pg_temp.detection_selected_outputs (entity_id, score, outputs) "
    "select q.entity::text, q.score::double precision, q.outputs from (\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """What a SELECT gave, in how many milliseconds."""

    count: int
    score_counts: Mapping[str, int]
    duration_ms: float


def select_rows(
    conn: Connection, schema: str, model: ModelSpec, outputs: SelectedOutputs, *, timeout: str
) -> Selected:
    """Run the SELECT into a temporary table, in the transaction that is open; it can write nothing else.

    Postgres takes one statement only, no data-modifying WITH inside another statement, and, in a read-only
    subtransaction, no function that writes.

    Raises:
        TerminalModelError: it is no such SELECT, a value is not what its column says, or Postgres refused it.
        RegistryUnavailable: the database did not answer, or the timeout ended the statement.
    """
    if (model.entity_key, model.score_key) != ("entity", "score"):
        raise TerminalModelError(
            f"model {model.model_id!r}: a SQL model has entity_key entity, score_key score"
        )
    queries, session = load_queries("selected_outputs", schema), load_queries("session", schema)
    text = _INSERT + named(outputs.statement).strip().rstrip("; \n") + "\n) as q"
    conn.execute(queries["make"])
    began = time.perf_counter()
    try:
        with conn.transaction():
            conn.execute(session["read_only"])
            conn.execute(session["use_schema"], {"schema": schema})
            conn.execute(queries["limit"], {"limit": timeout})
            conn.execute(text.encode(), outputs.params)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise RegistryUnavailable(f"the SELECT did not end: {str(error).strip()}") from error
    except psycopg.Error as error:
        raise TerminalModelError(f"the SELECT was refused: {str(error).strip()}") from error
    duration_ms = (time.perf_counter() - began) * 1000
    count, *counts = conn.execute(queries["facts"]).fetchone() or (0,) * 6
    scored = dict(zip(_COUNTS, counts, strict=True))
    return Selected(
        count=count, score_counts={**scored, "null": count - scored["scored"]}, duration_ms=duration_ms
    )


def store_rows(
    conn: Connection, schema: str, run: Mapping[str, Any], duration_ms: float
) -> None:  # Any: params
    """Make the selected rows the outputs of a run."""
    conn.execute(load_queries("selected_outputs", schema)["store"], {**run, "duration_ms": duration_ms})
