"""Reading the outputs of a champion in downstream models, beside reading the same rows from an XCom.

`xcom` is the read side as Airflow has it, all in this process: the row through its ORM, the API server's
response, the client's validation, the supervisor's message, and the task's deserialisation. No socket and no
second process are counted. `xcom_table` leaves out all but the first and the last.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from demo.airflow_env import sqlalchemy_url
from tests.postgres import postgres

from airflow_detection.engine.canary import SharedOutputs
from airflow_detection.store.database import Database
from airflow_detection.store.reader import StoredOutputs
from benchmarks._workload import SCHEMA, BenchDatabase, bench_database, line, rows, take_turns
from benchmarks.persist import Ready, engine, reset

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SIZES = {10_000: 7, 100_000: 3}  # rows: repeats
DAG, TASK, RUN, KEY = "bench", "spoofing", "bench", "return_value"


def run() -> Iterator[dict[str, Any]]:  # Any: JSON
    """Yield two lines for each number of rows: as mappings and as columns."""
    with postgres() as server, bench_database(server) as database, _xcoms(database.dsn) as session:
        for count, repeats in SIZES.items():
            reset(database)
            outputs = list(rows(count))
            engine(database, Ready(outputs))
            _push(session, [[ref, output] for ref, output in outputs])
            database.conn.execute("vacuum analyze detection.detection_model_run_outputs")
            assert [[_plain(ref), _plain(output)] for ref, output in _shared(database)] == _pull(session)
            times_ms = take_turns(
                {
                    "ours": lambda: deque(_shared(database), maxlen=0),
                    "columns": lambda: _shared(database).columns(),
                    "xcom": partial(_pull, session),
                    "xcom_table": partial(_pull, session, is_whole=False),
                },
                repeats,
            )
            as_columns = {
                "ours": times_ms.pop("columns"),
                **{k: v for k, v in times_ms.items() if "xcom" in k},
            }
            yield line("readback", f"{count} mappings", count, times_ms, limit=2.5)
            yield line("readback", f"{count} as columns", count, as_columns, limit=15)


def _shared(database: BenchDatabase) -> SharedOutputs:
    """Return `ctx.shared[model_id]` of a downstream model."""
    return SharedOutputs(
        StoredOutputs(lambda: Database(database.reader, SCHEMA), database.cycle(0), database.version)
    )


def _plain(value: Any) -> Any:  # Any: JSON
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {k: _plain(v) for k, v in value.items()} if hasattr(value, "items") else value


@contextmanager
def _xcoms(dsn: str) -> Iterator[Session]:
    """Session over Airflow's tables of XComs and runs, without foreign keys to tables that are left out."""
    os.environ.setdefault("_AIRFLOW__AS_LIBRARY", "true")
    from airflow.models import import_all_models
    from airflow.models.dagrun import DagRun
    from airflow.models.tasklog import LogTemplate
    from airflow.models.xcom import XComModel
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session
    from sqlalchemy.schema import CreateTable

    import_all_models()  # type: ignore[no-untyped-call]  # Airflow's
    sql_engine = create_engine(sqlalchemy_url(dsn))
    with Session(sql_engine) as session:
        for table in (LogTemplate.__table__, DagRun.__table__, XComModel.__table__):
            session.execute(CreateTable(table, include_foreign_key_constraints=[]))
        session.add(DagRun(dag_id=DAG, run_id=RUN, run_type="manual"))
        session.commit()
        yield session
    sql_engine.dispose()


def _push(session: Session, value: list[Any]) -> None:  # Any: JSON
    from airflow.models.xcom import XComModel
    from airflow.sdk.bases.xcom import BaseXCom

    serialised = BaseXCom.serialize_value(value)
    XComModel.set(KEY, serialised, dag_id=DAG, task_id=TASK, run_id=RUN, serialize=False, session=session)
    session.commit()


def _pull(session: Session, *, is_whole: bool = True) -> Any:  # Any: JSON
    """Return what `XCom.get_one` does in a task; with `is_whole` by way of API server and supervisor."""
    from airflow.api_fastapi.execution_api.datamodels.xcom import XComResponse as Served
    from airflow.models.xcom import XComModel
    from airflow.sdk.api.datamodels._generated import XComResponse
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time.comms import ToTask, XComResult, _ResponseFrame
    from msgspec.msgpack import Decoder
    from pydantic import TypeAdapter

    session.expire_all()
    query = XComModel.get_many(run_id=RUN, key=KEY, map_indexes=-1, task_ids=TASK, dag_ids=DAG)
    row: Any = session.scalars(query.limit(1)).one()  # Any: typed as a tuple of it
    if not is_whole:
        return BaseXCom.deserialize_value(row)
    response = XComResponse.model_validate_json(Served(key=KEY, value=row.value).model_dump_json())
    message = XComResult.from_xcom_response(response).model_dump(exclude_unset=True)
    frame = Decoder(_ResponseFrame).decode(_ResponseFrame(id=0, body=message).as_bytes()[4:])
    adapter: TypeAdapter[Any] = _pull.__dict__.setdefault("adapter", TypeAdapter(ToTask))
    return BaseXCom.deserialize_value(adapter.validate_python(frame.body))
