"""Outputs of a SQL model: selected and stored by the database, with no row through this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import psycopg
from psycopg import sql

from airflow_detection.domain.inputs import Inputs, SelectedOutputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.scores import EventRule, score_reason
from airflow_detection.domain.specs import ModelSpec, require_utc
from airflow_detection.errors import StorageError, TerminalModelError
from airflow_detection.store.connection import in_ms
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import unavailable
from airflow_detection.store.encoding import to_json
from airflow_detection.store.queries import bindable, named, refusal

_INSERT = (
    "insert into pg_temp.detection_selected_outputs (entity_id, score, outputs) "
    "select q.entity::text, q.score::double precision, q.outputs from (\n"
)
_GRANT = "grant insert on pg_temp.detection_selected_outputs to {}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectLimits:
    """Limits of a SELECT: seconds, and the role whose rights it has; None leaves the session's own."""

    timeout_s: float | None = None
    role: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """Counts of the rows that a SELECT gave, and its duration in milliseconds."""

    count: int
    score_counts: Mapping[str, int]
    duration_ms: float


def select_rows(db: Database, model: ModelSpec, outputs: SelectedOutputs, limits: SelectLimits) -> Selected:
    """Run the SELECT into a temporary table, in the transaction that is open; it can write nothing else.

    Postgres takes one statement only, no data-modifying WITH inside another statement, and, in a read-only
    subtransaction, no function that writes.

    Raises:
        TerminalModelError: it is not such a SELECT, a value does not fit its column, or Postgres refused
            it or the role that it has to act as.
        RegistryUnavailable: the database did not answer, or the timeout ended the statement.
    """
    if (model.entity_key, model.score_key) != ("entity", "score"):
        raise TerminalModelError(
            f"model {model.model_id!r}: a SQL model has entity_key entity, score_key score"
        )
    queries = db.queries("selected_outputs")
    text = _INSERT + named(outputs.statement).strip().rstrip("; \n") + "\n) as q"
    db.conn.execute(queries["create_table"])
    began = time.perf_counter()
    try:
        with db.conn.transaction(), _limited_select(db, limits):
            db.conn.execute(text.encode(), bindable(outputs.params))
    except psycopg.Error as error:
        if (passing := unavailable(error, "the SELECT did not end")) is not None:
            raise passing from error
        reason = refusal(error, outputs.statement, before=_INSERT)
        raise TerminalModelError(f"the SELECT was refused: {reason}") from error
    duration_ms = (time.perf_counter() - began) * 1000
    edges = EventRule.of(model.events).edges
    ordered = sorted(edges.values())
    counts = db.conn.execute(queries["counts"], {"negated": [-e for e in reversed(ordered)]}).fetchall()
    _check_scores(db, outputs.score_range, [score for *_, low, high in counts for score in (low, high)])
    count = sum(n for _, n, *_ in counts)
    above = {
        name: sum(n for below, n, *_ in counts if (below or 0) > ordered.index(edge))
        for name, edge in edges.items()
    }
    null = sum(n for below, n, *_ in counts if below is None)
    score_counts = {"scored": count - null, "null": null, **above}
    return Selected(count=count, score_counts=score_counts, duration_ms=duration_ms)


def _check_scores(db: Database, score_range: tuple[float, float], extremes: Sequence[float | None]) -> None:
    low, high = score_range
    if all(score is None or low <= score <= high for score in extremes):
        return
    params = {"low": low, "high": high}
    beyond = db.conn.execute(db.queries("selected_outputs")["beyond"], params).fetchone()
    if beyond is not None:
        entity, score = beyond
        raise TerminalModelError(f"entity {entity!r} has the score {score}: {score_reason(score_range)}")


@contextmanager
def _limited_select(db: Database, limits: SelectLimits) -> Iterator[None]:
    """Limit the open subtransaction: read-only, the search path of the schema, timeout, role.

    Postgres resets read-only at the end of the subtransaction, all else at the end of the transaction: so the
    timeout and the role are set back here for the statements that follow the SELECT.
    """
    queries, session = db.queries("selected_outputs"), db.queries("session")
    previous = db.conn.execute(queries["current_limits"]).fetchone()
    if limits.role is not None:
        db.conn.execute(sql.SQL(_GRANT).format(sql.Identifier(limits.role)))
    db.conn.execute(session["read_only_transaction"])
    db.conn.execute(session["use_schema"], {"schema": db.schema})
    if limits.timeout_s is not None:
        db.conn.execute(queries["limit"], {"limit": in_ms(limits.timeout_s)})
    if limits.role is not None:
        db.conn.execute(queries["act_as"], {"role": limits.role})
    yield
    db.conn.execute(queries["restore_limits"], previous)


def store_rows(db: Database, run: Mapping[str, Any], duration_ms: float) -> None:  # Any: params
    """Make the selected rows the outputs of a run."""
    db.conn.execute(db.queries("selected_outputs")["store"], {**run, "duration_ms": duration_ms})


def selection_json(outputs: SelectedOutputs) -> dict[str, Any]:  # Any: JSON
    """Return a selection as JSON values, for another process; `selection_of` reads it."""
    instants = {k: v.isoformat() for k, v in outputs.params.items() if isinstance(v, datetime)}
    params = {k: v for k, v in outputs.params.items() if k not in instants}
    json_params = orjson.loads(to_json(params))
    return {
        "statement": outputs.statement, "params": json_params, "instants": instants,
        "score_range": list(map(repr, outputs.score_range)),
    }  # fmt: skip


def selection_of(value: object) -> SelectedOutputs:
    """Read what `selection_json` wrote; StorageError if it is something else."""
    match value:
        case {
            "statement": str(statement),
            "params": dict(params),
            "instants": dict(instants),
            "score_range": [str(low), str(high)],
        }:
            try:
                times = {k: require_utc(k, datetime.fromisoformat(v)) for k, v in instants.items()}
            except (TypeError, ValueError) as error:
                raise StorageError("an instant of the selection is not a time with a time zone") from error
            return SelectedOutputs(statement, {**params, **times}, _unread, (float(low), float(high)))
    raise StorageError("the selection is not an object of statement, params, instants and score_range")


def _unread(statement: str, params: JsonMapping) -> Inputs:
    raise NotImplementedError("the database selects and stores these outputs")
