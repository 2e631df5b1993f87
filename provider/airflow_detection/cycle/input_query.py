"""An input query, tried without being run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from airflow_detection.cycle.planning import OpenedCycle
from airflow_detection.cycle.versions import cycle_reader, window_reader
from airflow_detection.domain.specs import CycleSpec, ModelSpec
from airflow_detection.errors import DetectionError
from airflow_detection.store.database import Database
from airflow_detection.store.registry import clock

PREPARE_LIMIT_S = 10.0


def query_problems(db: Database, spec: CycleSpec) -> Iterator[str]:
    """Describe what is wrong with a cycle's input query, which is planned as of now and not run."""
    if not spec.input_query:
        return
    try:
        names = _columns(db, spec, spec.input_query)
    except DetectionError as error:
        yield f"input_query: {error}"
        return
    if spec.time_key and spec.time_key not in names:
        yield f"time_key: {spec.time_key!r} is none of the columns of input_query: {', '.join(names)}"


def keys_of_outputs(db: Database, spec: CycleSpec, models: Sequence[ModelSpec]) -> dict[str, list[str]]:
    """Return models by `entity_key` where it is no column of the input query: outputs must have it."""
    models = [model for model in models if model.entity_key and model.cycle_id == spec.cycle_id]
    if not spec.input_query or not models:
        return {}
    with suppress(DetectionError):  # a problem of the query, told as such
        names = _columns(db, spec, spec.input_query)
        return {
            key: sorted(model.model_id for model in models if model.entity_key == key)
            for key in sorted({model.entity_key for model in models if model.entity_key} - set(names))
        }
    return {}


def input_tables(db: Database, opened: OpenedCycle) -> list[str]:
    """Return the tables that a cycle's input query reads, as `schema.table`; none without a query.

    Raises:
        TerminalModelError: the database refused the query.
        RegistryUnavailable: the database did not answer.
    """
    query = opened.spec.input_query
    return cycle_reader(db, opened, timeout_s=PREPARE_LIMIT_S).tables(query) if query else []


def _columns(db: Database, spec: CycleSpec, query: str) -> list[str]:
    now = clock(db)
    return window_reader(db, spec.at(now), now, timeout_s=PREPARE_LIMIT_S).columns(query)
