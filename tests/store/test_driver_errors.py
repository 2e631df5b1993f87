"""Errors of the driver: what may pass is worth a retry, what the database refuses for good is not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import psycopg
import pytest

from airflow_detection.engine.job import is_transient
from airflow_detection.errors import DetectionError, RegistryBusy, RegistryUnavailable
from airflow_detection.store.connection import Connection
from airflow_detection.store.driver_errors import registry_errors, storage_errors

REFUSED = ("22", "23", "42", "0A", "54", "F0", "P0", "XX")
"""Classes of errors that trying again does not mend."""
RAISE = "do $$ begin raise exception 'told to' using errcode = '{}'; end $$"
both = pytest.mark.parametrize("translated", [storage_errors, registry_errors])


def raised(
    conn: Connection, sqlstate: str, translated: Callable[[], AbstractContextManager[None]]
) -> DetectionError:
    with pytest.raises(DetectionError) as caught, translated():
        conn.execute(RAISE.format(sqlstate).encode())
    return caught.value


@both
@pytest.mark.parametrize(
    "sqlstate",
    [
        "55000",
        "55P02",
        "55P04",
        "22003",
        "23505",
        "42501",
        "42P01",
        "25006",
        "54000",
        "0A000",
        "P0001",
        "XX000",
    ],
)
def test_what_the_database_refuses_is_not_called_unavailable(
    database: Connection, sqlstate: str, translated: Callable[[], AbstractContextManager[None]]
) -> None:
    assert not isinstance(raised(database, sqlstate, translated), RegistryUnavailable)


@both
@pytest.mark.parametrize(
    "sqlstate", ["08006", "40001", "40P01", "53100", "53300", "55006", "57014", "57P01", "58030"]
)
def test_what_may_pass_is_worth_a_retry(
    database: Connection, sqlstate: str, translated: Callable[[], AbstractContextManager[None]]
) -> None:
    assert isinstance(raised(database, sqlstate, translated), RegistryUnavailable)


@both
def test_a_lock_that_is_not_free_is_told_as_that(
    database: Connection, translated: Callable[[], AbstractContextManager[None]]
) -> None:
    error = raised(database, "55P03", translated)
    assert isinstance(error, RegistryBusy)
    assert "another session holds a lock" in str(error)


def test_every_refusal_that_the_driver_knows_is_final_for_a_model_too() -> None:
    codes = {getattr(c, "sqlstate", None) for c in vars(psycopg.errors).values() if isinstance(c, type)}
    refused = [code for code in codes if isinstance(code, str) and code.startswith(REFUSED)]
    assert len(refused) > 100
    for code in refused:
        error = psycopg.errors.lookup(code)("told to")
        assert not is_transient(error), code
        with pytest.raises(DetectionError) as caught, storage_errors():
            raise error
        assert not isinstance(caught.value, RegistryUnavailable), code
