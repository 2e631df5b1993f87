"""Values that a plan or Postgres cannot hold are refused where they are registered, with their place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from tests import sample_registry
from tests.sample_registry import AT, SCHEMA, SETTINGS

from airflow_detection.cycle import planning
from airflow_detection.domain.specs import Mode, Role
from airflow_detection.errors import RegistrationError
from airflow_detection.registration.file import parse
from airflow_detection.store import registry
from airflow_detection.store.database import Database
from airflow_detection.store.encoding import to_json

Connection = psycopg.Connection[tuple[Any, ...]]


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def flow(levels: int) -> str:
    return "[" * levels + "1" + "]" * levels


def problems_of(params: str) -> list[str]:
    text = f"""\
models:
  a:
    cycle: sea
    entrypoint: m
    versions:
      "1":
        params:
{params}
"""
    with pytest.raises(RegistrationError) as caught:
        parse(text, "f.yaml", cycles=["sea"])
    return str(caught.value).splitlines()


PLACE = "models.a.versions.1.params"


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ("          seed: 1180591620717411303424", f"f.yaml:8: {PLACE}.seed: is an integer beyond 64 bits"),
        ("          a: {b: [0, -9223372036854775809]}", f"f.yaml:8: {PLACE}.a.b[1]: is an integer beyond"),
        (f"          a: {'9' * 5000}", f"f.yaml:8: {PLACE}.a: is an integer beyond 64 bits"),
        ("          a: 1.0e+400", f"f.yaml:8: {PLACE}.a: is not a finite number: inf"),
        ('          a: "x\\0y"', f"f.yaml:8: {PLACE}.a: holds a NUL character"),
        ('          "x\\0y": 1', f"f.yaml:8: {PLACE}: has the key 'x\\x00y', which is not plain text"),
        (f"          a: {flow(100)}", f"f.yaml:8: {PLACE}.a[0][0]"),
        ("          a: &a [*a]", "f.yaml:8: YAML: an alias is inside its own anchor"),
    ],
)
def test_a_file_names_the_place_of_params_that_cannot_be_held(params: str, line: str) -> None:
    (problem,) = problems_of(params)
    assert problem.startswith(line)
    assert len(problem) < 200


def test_yaml_that_is_nested_too_deep_to_be_read_is_one_line() -> None:
    assert problems_of(f"          a: {flow(5000)}") == ["f.yaml:1: YAML: is nested too deep"]


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("start_date: 0044-01-01", "cycles.sea.start_date: must lie between the years 1900 and 2999"),
        ("start_date: 0001-01-01T00:00:00+05:00", "cycles.sea.start_date: must lie between"),
        ("start_date: 2020-01-01\n    lookback: 5000w", ""),
        ("lookback: 999999999w", "cycles.sea.lookback: must be at most 36500 days"),
        (f"max_active_runs: {'9' * 5000}", "cycles.sea.max_active_runs: must be a whole number"),
    ],
)
def test_a_cycle_with_times_that_nobody_can_reckon_with_is_refused(field: str, line: str) -> None:
    fields = {"schedule": '"* * * * *"', "start_date": "2020-01-01", "lookback": "1h"}
    fields = {key: value for key, value in fields.items() if f"{key}:" not in field}
    text = "cycles:\n  sea:\n" + "".join(f"    {key}: {value}\n" for key, value in fields.items())
    text += f"    {field}\n"
    if not line:
        assert parse(text, "f.yaml").cycles[0].spec.lookback == timedelta(weeks=5000)
        return
    with pytest.raises(RegistrationError) as caught:
        parse(text, "f.yaml")
    assert any(line in problem for problem in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"seed": 2**70}, "params.seed is an integer beyond 64 bits"),
        ({"a": [1, {"b": float("nan")}]}, r"params.a\[1\].b is not a finite number: nan"),
        ({"a": deep(100)}, "is nested more than 100 levels deep"),
        ({"a": "\ud800"}, "params.a is not valid Unicode"),
        ({"a": "x\0"}, "params.a holds a NUL character"),
        ({1: 2}, "has the key 1, which is not plain text"),
        ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, "params.a is a datetime, which JSON does not have"),
    ],
)
def test_params_that_a_plan_cannot_hold_are_refused_in_one_clear_sentence(
    database: Connection, params: dict[Any, Any], reason: str
) -> None:
    sample_registry.put_cycle(database)
    sample_registry.put_model(database, "tracks")
    with pytest.raises(RegistrationError, match=reason) as caught:
        registry.put_version(Database(database, SCHEMA), model_id="tracks", version="1", params=params)
    assert str(caught.value).startswith("tracks@1: params")


def test_params_at_the_bounds_run_and_come_back_as_the_same_numbers(database: Connection) -> None:
    sample_registry.put_cycle(database)
    sample_registry.put_model(database, "tracks")
    params = {"least": -(2**63), "most": 2**64 - 1, "huge": 1e22, "tiny": 5e-324, "deep": deep(99)}
    sample_registry.put_version(database, "tracks@1", Role.PRIMARY, **params)
    planning.open_cycle(Database(database, SETTINGS.schema), "fleet", AT, mode=Mode.AS_OF)
    opened = planning.planned_cycle(Database(database, SETTINGS.schema), "fleet", AT, mode=Mode.AS_OF)
    assert opened.plan.primaries["tracks"].params == params


def test_a_whole_number_of_any_length_is_written_as_json() -> None:
    assert to_json({"b": 10**30, "a": 1}) == b'{"a":1,"b":1000000000000000000000000000000}'


STATEMENTS = (
    "update detection.detection_cycles set start_date = 'infinity'",
    "update detection.detection_cycles set start_date = '0044-03-15 bc'",
    "update detection.detection_cycles set lookback = '5000 years'",
    "update detection.detection_model_versions set params = '{\"x\": 1e400}'",
    'update detection.detection_model_versions set params = \'{"x": [{"y": -1e400}]}\'',
    """update detection.detection_model_versions
          set params = ('{"x":' || repeat('[', 2000) || repeat(']', 2000) || '}')::jsonb""",
    "update detection.detection_models set task_options = '{\"retries\": 1e400}'",
)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_plain_sql_cannot_register_what_nobody_can_read(database: Connection, statement: str) -> None:
    sample_registry.put_cycle(database)
    sample_registry.put_model(database, "tracks")
    sample_registry.put_version(database, "tracks@1")
    with pytest.raises(psycopg.errors.CheckViolation):
        database.execute(statement.encode())
