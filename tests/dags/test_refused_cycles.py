"""One cycle that cannot be read, or that would take another's Dag, is refused; the others stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests import sample_registry
from tests.dags.test_cycles import CONN_ENV, DOWN, connection, cycle, model, parsing
from tests.sample_registry import AT, SCHEMA

from airflow_detection.cycle import planning
from airflow_detection.dags.cycles import cycle_dags, dags_of
from airflow_detection.domain.names import task_ids
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Role
from airflow_detection.errors import RegistrationError
from airflow_detection.plan_cache import file as plan_file
from airflow_detection.plan_cache.known import KnownRegistry
from airflow_detection.registration.apply import apply_file
from airflow_detection.store import confirmations
from airflow_detection.store.database import Database

CONSTRAINTS = {
    "detection_cycles": ("start_date_is_in_our_time", "lookback_is_at_most_36500_days"),
    "detection_model_versions": (
        "params_hold_numbers_within_a_double",
        "params_are_nested_at_most_100_levels_deep",
    ),
    "detection_models": ("task_options_hold_numbers_within_a_double",),
}
UNREADABLE = {
    "5000 digits": "update detection.detection_model_versions set params = jsonb_build_object('x',"
    " 10::numeric ^ 4999) where version = '2'",
    "fraction beyond a double": "update detection.detection_model_versions"
    " set params = jsonb_build_object('x', 10::numeric ^ 400 + 0.5) where version = '2'",
    "2000 levels": "update detection.detection_model_versions set params ="
    " ('{\"x\":' || repeat('[', 2000) || repeat(']', 2000) || '}')::jsonb where version = '2'",
    "300 levels": "update detection.detection_model_versions set params ="
    " ('{\"x\":' || repeat('[', 300) || repeat(']', 300) || '}')::jsonb where version = '2'",
    "options": "update detection.detection_models set task_options = jsonb_build_object('x',"
    " 10::numeric ^ 4999) where model_id = 'tracks'",
    "infinite start": "update detection.detection_cycles set start_date = 'infinity'"
    " where cycle_id = 'fleet'",
    "start bc": "update detection.detection_cycles set start_date = '0044-03-15 bc' where cycle_id = 'fleet'",
    "endless lookback": "update detection.detection_cycles set lookback = '10000000 years'"
    " where cycle_id = 'fleet'",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", plan_ttl_s=0, allowed_prefixes=("tests.sample_registry",))


@pytest.fixture
def two(database: Any, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The cycles `fleet` and `bay` of a registry from before there were constraints."""
    monkeypatch.setenv(CONN_ENV, connection(dsn))
    sample_registry.register(database)
    sample_registry.put_cycle(database, cycle_id="bay")
    sample_registry.put_model(database, "cranes", cycle_id="bay")
    sample_registry.put_version(database, "cranes@1", Role.PRIMARY)
    for table, names in CONSTRAINTS.items():
        for name in names:
            database.execute(f"alter table detection.{table} drop constraint if exists {name}".encode())
    return database


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_cycle_that_cannot_be_read_is_refused_with_the_reason_and_the_others_stand(
    two: Any, settings: Settings, what: str
) -> None:
    before = cycle_dags(settings=settings)
    two.execute("alter table detection.detection_model_versions disable trigger all")
    two.execute(UNREADABLE[what].encode())
    sample_registry.put_cycle(two, cycle_id="bay", description="it is followed")
    dags = cycle_dags(settings=settings)
    assert list(dags) == ["detection_bay", "detection_fleet"]
    assert dags["detection_bay"].description == "it is followed"
    assert dags["detection_bay"].task_dict.keys() == before["detection_bay"].task_dict.keys()
    assert dags["detection_bay"].tags == {"detection"}
    reason = dags["detection_fleet"].task_dict["registration_error"].reason
    assert reason.startswith("cycle 'fleet' cannot be read: ")
    assert len(reason) < 300
    with parsing("detection_fleet", "registration_error"):
        (dag,) = cycle_dags(settings=settings).values()
    assert dag.task_dict["registration_error"].reason == reason
    planning.open_cycle(Database(two, settings.schema), "bay", AT, mode=Mode.AS_OF)
    with pytest.raises(RegistrationError, match=r"cannot be read|lookback is not between"):
        planning.open_cycle(Database(two, settings.schema), "fleet", AT, mode=Mode.AS_OF)


def test_a_refused_cycle_comes_back_as_it_was_and_a_loss_behind_it_is_held_back(
    two: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    before = cycle_dags(settings=settings)["detection_fleet"]
    two.execute("update detection.detection_cycles set start_date = 'infinity' where cycle_id = 'fleet'")
    assert list(cycle_dags(settings=settings)["detection_fleet"].task_dict) == ["registration_error"]
    monkeypatch.setenv(CONN_ENV, DOWN)
    assert list(cycle_dags(settings=settings)["detection_fleet"].task_dict) == ["registration_error"]
    monkeypatch.setenv(CONN_ENV, connection(dsn))
    sample_registry.put_cycle(two)
    assert cycle_dags(settings=settings)["detection_fleet"].doc_md == before.doc_md
    two.execute("update detection.detection_cycles set start_date = 'infinity' where cycle_id = 'fleet'")
    cycle_dags(settings=settings)
    sample_registry.put_cycle(two)
    two.execute("update detection.detection_model_roles set valid = tstzrange(lower(valid), now())"
                " where model_id in ('tracks', 'spoofing')")  # fmt: skip
    assert cycle_dags(settings=settings)["detection_fleet"].tags == {"detection", "held back"}
    confirmations.confirm(Database(two, SCHEMA), "fleet")
    assert cycle_dags(settings=settings)["detection_fleet"].tags == {"detection"}


def test_rights_that_are_missing_are_an_outage_and_refuse_no_cycle(
    two: Any, settings: Settings, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cycle_dags(settings=settings)
    two.execute(
        "do $$ begin create role sees_nothing login; exception when duplicate_object then null; end $$"
    )
    monkeypatch.setenv(CONN_ENV, json.dumps(json.loads(connection(dsn)) | {"login": "sees_nothing"}))
    after = cycle_dags(settings=settings)
    assert {d: dag.task_dict.keys() for d, dag in after.items()} == {
        d: dag.task_dict.keys() for d, dag in before.items()
    }
    assert all("last known plan" in dag.tags for dag in after.values())


def test_the_cycle_whose_id_is_its_dags_keeps_it_and_the_other_is_refused(tmp_path: Path) -> None:
    known = KnownRegistry(
        read_at=1.0,
        cycles=tuple(cycle(model("m"), cycle_id=c) for c in ("a b", "a!b", "a_b", "a_b_", "c")),
    )
    dags = {dag.dag_id: dag for dag in dags_of(known)}
    assert {dag_id: "m" in dag.task_dict for dag_id, dag in dags.items()} == {
        "detection_a_b": True,
        "detection_a_b_": True,
        "detection_a_b__": False,
        "detection_a_b___": False,
        "detection_c": True,
    }
    assert dags["detection_a_b"].task_dict["open_cycle"].cycle_id == "a_b"
    assert "cycle 'a b' would have the Dag of cycle 'a_b'" in dags["detection_a_b__"].doc_md
    path = tmp_path / "plan.jsonl"
    plan_file.write(path, known)
    for dag_id, dag in dags.items():
        alone = plan_file.read(path, dag_id)
        assert alone is not None
        assert len(alone.cycles) == 1, "a worker reads one cycle alone"
        (dag_alone,) = dags_of(alone, only=dag_id)
        assert (dag_alone.dag_id, dag_alone.doc_md) == (dag_id, dag.doc_md)


def test_the_model_whose_id_is_its_tasks_keeps_it() -> None:
    models = [model("a b", shadows=("x y",)), model("a_b", shadows=("x y", "x_y")), model("a!b")]
    assert task_ids(models) == {
        ("a_b", None): "a_b",
        ("a b", None): "a_b_",
        ("a!b", None): "a_b__",
        ("a_b", "x_y"): "a_b__x_y",
        ("a b", "x y"): "a_b__x_y_",
        ("a_b", "x y"): "a_b__x_y__",
    }


REST = ', schedule: "* * * * *", lookback: 1h, start_date: 2026-01-01T00:00:00Z}\n'


def test_apply_refuses_a_cycle_or_a_model_whose_name_in_airflow_is_taken(two: Any, tmp_path: Path) -> None:
    sample_registry.put_cycle(two, cycle_id="old one")
    sample_registry.put_model(two, "m n", cycle_id="bay")
    file = tmp_path / "registry.yaml"
    file.write_text(
        "cycles:\n"
        f'  "a b": {{execution: task{REST}'
        f"  a_b: {{execution: task{REST}"
        f'  "old one": {{execution: inline{REST}'
        f"  old_one: {{execution: task{REST}"
        "models:\n"
        "  m_n: {cycle: bay, entrypoint: m}\n"
        "  m.n: {cycle: bay, entrypoint: m}\n"
        '  "m n": {cycle: bay, entrypoint: "tests.sample_registry:Echo", entity_key: id, score_key: score}\n'
        '  "m|n": {cycle: fleet, entrypoint: m}\n'
    )
    with pytest.raises(RegistrationError) as caught:
        apply_file(Database(two, SCHEMA), file)
    give = "give it another id"
    assert str(caught.value).splitlines() == [
        f"{file}:2: cycles.a b: would have the Dag detection_a_b of cycle 'a_b': {give}",
        f"{file}:5: cycles.old_one: would have the Dag detection_old_one of cycle 'old one': {give}",
        f"{file}:7: models.m_n: would have the task m_n of model 'm n': {give}",
        f"{file}:10: models.m|n: a model id is of the characters a-z, 0-9, '_', '.' and '-'",
    ]
    file.write_text(f'cycles:\n  "old one": {{execution: inline{REST}')
    assert len(apply_file(Database(two, SCHEMA), file)) == 1, "what stands already may change"
