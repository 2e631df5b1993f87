"""Params of the current PRIMARY version, kept for five minutes and through an outage."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests import sample_registry
from tests.operators.airflow_runs import airflow_uri

from airflow_detection.domain.specs import Role
from airflow_detection.engine.params import ParamsLoader
from airflow_detection.errors import MigrationError, PlanError, RegistryUnavailable
from airflow_detection.hooks import detection
from airflow_detection.hooks.detection import DetectionHook
from airflow_detection.store.connection import Connection

CONN_ENV = "AIRFLOW_CONN_DETECTION_DEFAULT"
NOWHERE = json.dumps({"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "schema": "none"})


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The clock of the loaders in a process without any; the connection leads to the test's database."""
    clock = Clock()
    monkeypatch.setenv(CONN_ENV, airflow_uri(dsn))
    monkeypatch.setattr(detection, "ParamsLoader", partial(ParamsLoader, clock=clock))
    detection._shared_loader.cache_clear()
    yield clock
    detection._shared_loader.cache_clear()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The connections that were opened, in order."""
    opened: list[str] = []
    connect = DetectionHook.connect

    def counted(hook: DetectionHook, *args: Any, **kwargs: Any) -> Connection:
        opened.append(hook._conn_id)
        return connect(hook, *args, **kwargs)

    monkeypatch.setattr(DetectionHook, "connect", counted)
    return opened


def promote(database: Any, label: str, **params: Any) -> None:
    sample_registry.put_version(database, label, Role.PRIMARY, since=None, **params)


def test_params_are_those_of_the_current_primary_asked_once_in_five_minutes(
    database: Any, clock: Clock, asked: list[str]
) -> None:
    sample_registry.register(database)
    assert DetectionHook().params("tracks") == {"ids": ("a", "b")}
    promote(database, "tracks@3", ids=["z"], limits={"v_max_kn": 50})
    clock.now_s += 299
    assert DetectionHook().params("tracks") == {"ids": ("a", "b")}, "another hook of the process"
    assert asked == ["detection_default"]
    clock.now_s += 1
    params = DetectionHook().params("tracks")
    assert params == {"ids": ("z",), "limits": {"v_max_kn": 50}}
    assert len(asked) == 2
    for mapping in (params, params["limits"]):
        with pytest.raises(TypeError):
            mapping["v_max_kn"] = 60  # type: ignore[index]
    assert DetectionHook().params("spoofing") == {"ids": ("x",)}
    assert len(asked) == 3


def test_an_outage_gives_the_last_known_params_and_the_end_of_it_the_new_ones(
    database: Any,
    dsn: str,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sample_registry.register(database)
    assert DetectionHook().params("tracks") == {"ids": ("a", "b")}
    promote(database, "tracks@3", ids=["z"])
    clock.now_s += 420
    monkeypatch.setenv(CONN_ENV, NOWHERE)
    with caplog.at_level(logging.WARNING, logger="airflow_detection.engine"):
        assert DetectionHook().params("tracks") == {"ids": ("a", "b")}
    assert "params of tracks cannot be loaded (no connection to the registry: " in caplog.text
    assert "serving those loaded 420 s ago" in caplog.text
    with pytest.raises(RegistryUnavailable, match="no connection to the registry"):
        DetectionHook().params("spoofing")
    monkeypatch.setenv(CONN_ENV, airflow_uri(dsn))
    assert DetectionHook().params("tracks") == {"ids": ("z",)}


def test_a_model_without_a_primary_or_registration_has_no_params_even_if_it_had_some(
    database: Any, clock: Clock
) -> None:
    sample_registry.register(database)
    hook = DetectionHook()
    assert hook.params("tracks")
    hook.retire("tracks@1")
    assert hook.params("tracks"), "within the five minutes"
    clock.now_s += 300
    with pytest.raises(PlanError, match="model 'tracks' has no PRIMARY version now"):
        hook.params("tracks")
    with pytest.raises(PlanError, match="model 'trakcs' is not registered; the nearest name is 'tracks'"):
        hook.params("trakcs")


def test_each_schema_and_each_hook_with_arguments_of_its_own_has_params_of_its_own(
    database: Any, clock: Clock, asked: list[str]
) -> None:
    sample_registry.register(database)
    DetectionHook().params("tracks")
    assert DetectionHook(schema="detection").params("tracks") == {"ids": ("a", "b")}
    assert len(asked) == 1, "the same schema, named"
    with pytest.raises(MigrationError, match="the database has no registry"):
        DetectionHook(schema="elsewhere").params("tracks")
    DetectionHook(log_sql=False).params("tracks")
    assert len(asked) == 3
