"""The Dags that are made of the registry, and what they stand on while it does not answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import ParamValidationError
from psycopg.conninfo import conninfo_to_dict
from tests import sample_registry

from airflow_detection.dags.cycles import build_dag, cycle_dags
from airflow_detection.domain.cron import cron_problem
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import CycleSpec, Execution, ModelSpec, Role, VersionSpec
from airflow_detection.errors import ConfigurationError, RegistryUnavailable
from airflow_detection.plan_cache import file
from airflow_detection.plan_cache.known import KnownCycle, KnownRegistry
from airflow_detection.registration.task_options import TaskOptions

ROOT = Path(__file__).parents[2]
CONN_ENV = "AIRFLOW_CONN_DETECTION_DEFAULT"
DOWN = json.dumps({"conn_type": "postgres", "host": "127.0.0.1", "port": 9, "schema": "none"})


def connection(dsn: str) -> str:
    """The value of AIRFLOW_CONN_* for a libpq connection string."""
    parts = conninfo_to_dict(dsn)
    fields = {
        "conn_type": "postgres",
        "host": parts["host"],
        "login": parts.get("user"),
        "schema": parts["dbname"],
    }
    fields |= {"password": parts.get("password"), "port": int(parts["port"]) if parts.get("port") else None}
    return json.dumps(fields)


def model(model_id: str, *depends_on: str, shadows: tuple[str, ...] = (), **fields: Any) -> ModelSpec:
    champion = VersionSpec(model_id=model_id, version="1", role=Role.PRIMARY, params={"b": 1, "a": [2]})
    others = tuple(VersionSpec(model_id=model_id, version=v, role=Role.SHADOW) for v in shadows)
    return ModelSpec(model_id=model_id, depends_on=depends_on, versions=(champion, *others), **fields)


def cycle(*models: ModelSpec, **fields: Any) -> KnownCycle:
    spec: dict[str, Any] = {"cycle_id": "fleet", "schedule": "*/5 * * * *", "lookback": timedelta(hours=1)}
    return KnownCycle(spec=CycleSpec(**spec | {"start_date": sample_registry.SINCE} | fields), models=models)


@contextmanager
def parsing(dag_id: str, task_id: str | None = None) -> Iterator[None]:
    """The way Airflow says which task it parses for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)
        if task_id:
            patch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", task_id)
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", plan_ttl_s=0, allowed_prefixes=("tests.sample_registry",))


@pytest.fixture
def reachable(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONN_ENV, connection(dsn))


def downstream(dag: Any) -> dict[str, set[str]]:
    return {t.task_id: set(t.downstream_task_ids) for t in dag.tasks}


@pytest.mark.parametrize("legacy", [None, "tests.sample_registry:legacy"])
def test_a_dag_that_would_run_nothing_says_so(legacy: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTION_USE_MODEL_REGISTRY", "0")
    dag = build_dag(cycle(model("tracks"), legacy_entrypoint=legacy))
    assert ("registry off" in dag.tags) is (legacy is None)
    text = str(dag.doc_md).replace("\\", "")
    assert ("set PREDICTION_USE_MODEL_REGISTRY=1" in text) is (legacy is None)


def test_shadows_are_leaves_behind_their_champion_and_close_cycle_is_the_single_leaf() -> None:
    dag = build_dag(cycle(model("tracks", shadows=("2",)), model("spoofing", "tracks")))
    assert downstream(dag) == {
        "open_cycle": {"tracks", "other_versions"},
        "tracks": {"tracks__2", "spoofing", "other_versions", "close_cycle"},
        "tracks__2": {"close_cycle"},
        "spoofing": {"other_versions", "close_cycle"},
        "other_versions": {"close_cycle"},
        "close_cycle": set(),
    }
    assert dag.task_dict["close_cycle"].trigger_rule == "all_done"
    assert dag.task_dict["spoofing"].trigger_rule == "none_failed"
    assert (dag.catchup, dag.tags, dag.max_active_runs) == (False, {"detection"}, 1)


def test_a_shadow_retries_like_its_champion_and_waits_behind_it() -> None:
    options = {"retries": 5, "pool": "gpu", "priority_weight": 50, "execution_timeout": 90, "queue": "big"}
    dag = build_dag(cycle(model("tracks", shadows=("2",), task_options=options), model("plain")))
    champion, shadow, plain = (dag.task_dict[t] for t in ("tracks", "tracks__2", "plain"))
    assert (champion.retries, champion.pool, champion.queue) == (5, "gpu", "big")
    assert champion.execution_timeout == timedelta(seconds=90 + 30), "its process is ended before"
    assert champion.priority_weight > shadow.priority_weight
    assert (plain.retries, plain.retry_delay) == (2, timedelta(seconds=30))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"colour": "red"}, "colour: unknown option"),
        ({"retries": True}, "retries"),
        ({"retries": -1}, "retries"),
        ({"priority_weight": 0}, "priority_weight"),
        ({"execution_timeout": float("inf")}, "execution_timeout"),
        ({"execution_timeout": "60"}, "execution_timeout"),
        ({"pool": ""}, "pool"),
        ({"executor": "NoSuchExecutor"}, "executor: 'NoSuchExecutor' is not configured"),
    ],
)
def test_a_wrong_task_option_becomes_a_task_that_fails_with_the_reason(
    options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        TaskOptions.of(options)
    dag = build_dag(cycle(model("odd", task_options=options), model("tracks")))
    assert reason in dag.task_dict["odd"].problem
    assert dag.task_dict["tracks"].problem is None
    assert reason in dag.doc_md


@pytest.mark.parametrize("schedule", ["every five minutes", "61 * * * *", "0 0 31 2 *", "", "* * *"])
def test_a_bad_schedule_becomes_a_dag_that_states_the_reason(schedule: str) -> None:
    assert cron_problem(schedule)
    dag = build_dag(cycle(model("tracks"), schedule=schedule))
    assert dag.schedule is None
    assert list(dag.task_dict) == ["registration_error"]
    assert repr(schedule) in dag.task_dict["registration_error"].reason


def test_a_good_schedule_is_the_tick_itself_whatever_airflow_is_set_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS", "True")
    assert type(build_dag(cycle(model("tracks"))).timetable).__name__ == "CronTriggerTimetable"


def test_a_loop_and_an_unknown_upstream_leave_the_other_models_standing() -> None:
    dag = build_dag(
        cycle(
            model("a", "b"), model("b", "a"), model("lost", "trakcs"), model("tracks"), model("behind", "a")
        )
    )
    assert {"a", "b", "lost", "tracks", "behind"} <= set(dag.task_dict)
    assert "a -> b -> a" in dag.doc_md
    assert "the nearest name is 'tracks'" in dag.doc_md
    assert "behind" in dag.task_dict["a"].downstream_task_ids
    assert dag.task_dict["a"].downstream_task_ids.isdisjoint({"b"})


def test_no_two_tasks_share_an_id() -> None:
    dag = build_dag(cycle(model("a", shadows=("b", "ä")), model("a__b"), model("open_cycle"), model("a.ö")))
    ids = {(t.model_id, t.version): t.task_id for t in dag.tasks if hasattr(t, "model_id")}
    assert ids == {
        ("a", None): "a",
        ("a", "b"): "a__b_",
        ("a", "ä"): "a___",
        ("a.ö", None): "a._",
        ("a__b", None): "a__b",
        ("open_cycle", None): "open_cycle_",
    }


def test_the_documentation_shows_a_picture_versions_and_the_rule() -> None:
    dag = build_dag(cycle(model("tracks", shadows=("2",)), model("spoofing", "tracks")))
    assert "```" not in dag.doc_md
    for part in (
        "![The plan of this cycle](detection/api/cycles/fleet/plan.svg)",
        "(plugin/detection?view=cycle&cycle=fleet)",
        "| spoofing | 1 | PRIMARY |",
        '| tracks | 1 | PRIMARY | `{"a": [2], "b": 1}` |',
        "as of its logical",
    ):
        assert part in dag.doc_md


def test_a_run_can_be_told_where_its_plan_comes_from() -> None:
    params = build_dag(cycle(model("tracks"))).params
    assert params.dump() == {"mode": "as_of", "replay": None, "known_at": None}
    for name, wrong in (("mode", "latest"), ("replay", "tracks@1"), ("known_at", 5)):
        with pytest.raises(ParamValidationError):
            params[name] = wrong


def test_an_inline_cycle_has_one_task_for_all_its_models() -> None:
    dag = build_dag(cycle(model("tracks"), execution=Execution.INLINE, legacy_entrypoint="m:f"))
    assert set(dag.task_dict) == {"open_cycle", "run_cycle", "legacy_path", "close_cycle"}


def test_a_cycle_that_is_switched_off_keeps_its_dag_and_loses_its_schedule() -> None:
    assert build_dag(cycle(model("tracks"), is_enabled=False)).schedule is None


def test_the_dags_are_those_of_the_registry(database: Any, settings: Settings, reachable: None) -> None:
    assert cycle_dags(settings=settings) == {}
    sample_registry.register(database)
    sample_registry.put_cycle(database, cycle_id="bay")
    dags = cycle_dags(settings=settings)
    assert list(dags) == ["detection_bay", "detection_fleet"]
    assert {"tracks", "tracks__2", "spoofing"} <= set(dags["detection_fleet"].task_dict)


def test_a_task_start_makes_its_own_dag_alone(database: Any, settings: Settings, reachable: None) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, cycle_id="bay")
    with parsing("detection_bay", "open_cycle"):
        assert list(cycle_dags(settings=settings)) == ["detection_bay"]
    with parsing("some_other_dag"):
        assert cycle_dags(settings=settings) == {}


def test_a_models_task_is_made_with_its_neighbours_alone_and_as_in_the_whole_dag() -> None:
    models = [
        model("a", shadows=("2",)),
        model("b", "a", shadows=("2", "3"), task_options={"retries": 5}),
        model("c", "b"),
        model("d", "c", "a"),
        model("e", shadows=("2",)),
        model("f", "e", "nowhere"),
        model("g", "h", task_options={"retries": -1}),
        model("h", "g"),
    ]
    whole = build_dag(cycle(*models))
    ran = [t for t in whole.tasks if hasattr(t, "model_id")]
    assert len(ran) == 12
    for task in ran:
        dag = build_dag(cycle(*models), task_id=task.task_id)
        alone: Any = dag.task_dict[task.task_id]
        names = ("upstream_task_ids", "downstream_task_ids", "retries", "problem", "version", "outlets")
        assert [getattr(alone, n) for n in names] == [getattr(task, n) for n in names]
        assert len(dag.tasks) < len(whole.tasks)
        assert not downstream(dag)["close_cycle"]
        assert dag.params.dump() == whole.params.dump()
        for other in dag.tasks:
            assert other.upstream_task_ids <= whole.task_dict[other.task_id].upstream_task_ids
    for name in ("open_cycle", "close_cycle", "other_versions"):
        assert downstream(build_dag(cycle(*models), task_id=name)) == downstream(whole)


def test_the_registry_is_asked_again_only_after_the_ttl(
    database: Any, settings: Settings, reachable: None
) -> None:
    sample_registry.register(database)
    cycle_dags(settings=settings)
    sample_registry.put_cycle(database, cycle_id="new")
    assert list(cycle_dags(settings=replace(settings, plan_ttl_s=3600))) == ["detection_fleet"]
    assert list(cycle_dags(settings=settings)) == ["detection_fleet", "detection_new"]


def test_while_the_registry_is_down_the_dags_stand_on_the_last_known_good_plan(
    database: Any, settings: Settings, reachable: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample_registry.register(database)
    before = cycle_dags(settings=settings)["detection_fleet"]
    monkeypatch.setenv(CONN_ENV, DOWN)
    after = cycle_dags(settings=settings)["detection_fleet"]
    assert downstream(after) == downstream(before)
    assert after.tags == before.tags | {"last known plan"}
    note = next(line for line in after.doc_md.splitlines() if "does not answer" in line)
    assert after.doc_md.replace(f"{note}\n\n", "") == before.doc_md
    time.sleep(1.1)
    later = cycle_dags(settings=settings)["detection_fleet"]
    assert later.doc_md == after.doc_md, "marked by the plan's own timestamp, never by an age"


def test_without_any_known_plan_an_outage_is_an_error_and_no_empty_set(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONN_ENV, DOWN)
    with pytest.raises(RegistryUnavailable, match="no last known good plan"):
        cycle_dags(settings=settings)


def test_a_task_asks_for_its_own_cycle_by_age_and_when_the_plan_lacks_it(
    database: Any, settings: Settings, reachable: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = replace(settings, plan_ttl_s=3600)
    sample_registry.register(database)
    cycle_dags(settings=patient)
    sample_registry.put_cycle(database, schedule="0 * * * *")
    with parsing("detection_fleet", "tracks"):
        schedule = cycle_dags(settings=patient)["detection_fleet"].timetable.expression
    assert schedule == "*/5 * * * *", "does not ask: the plan is young"
    with parsing("detection_fleet", "tracks"):
        schedule = cycle_dags(settings=settings)["detection_fleet"].timetable.expression
    assert schedule == "0 * * * *", "asks: the plan is old"
    sample_registry.put_model(database, "late")
    sample_registry.put_version(database, "late@1", Role.PRIMARY)
    with parsing("detection_fleet", "late"):
        assert "late" in cycle_dags(settings=patient)["detection_fleet"].task_dict, "asks: the plan lacks it"
    monkeypatch.setenv(CONN_ENV, DOWN)
    with parsing("detection_fleet", "late"):
        dag = cycle_dags(settings=settings)["detection_fleet"]
    assert "late" in dag.task_dict, "what was asked for one task is kept"
    assert "last known plan" in dag.tags
    assert "late" not in cycle_dags(settings=settings)["detection_fleet"].task_dict, (
        "the Dag processor has its own"
    )


def known() -> KnownRegistry:
    first = cycle(model("tracks", shadows=("2",), task_options={"retries": 1}), model("spoofing", "tracks"))
    return KnownRegistry(read_at=1000.5, cycles=(first, cycle(cycle_id="bay")))


def test_a_plan_file_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "plan.json"
    assert file.read(path) is None
    assert file.write(path, known())
    assert file.read(path) == known()
    assert [p.name for p in path.parent.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("damage", ["cut", "edited", "empty", "format"])
def test_a_damaged_plan_file_is_no_plan(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "plan.json"
    file.write(path, known())
    text = path.read_text()
    path.write_text(
        {
            "cut": text[:-20],
            "edited": text.replace("*/5", "*/9"),
            "empty": "",
            "format": "[]",
        }[damage]
    )
    assert file.read(path) is None


def test_a_folder_that_cannot_be_written_to_stops_nothing(
    database: Any, settings: Settings, reachable: None, tmp_path: Path
) -> None:
    sample_registry.register(database)
    (tmp_path / "file").write_text("")
    blocked = replace(settings, state_dir=tmp_path / "file")
    assert list(cycle_dags(settings=blocked)) == ["detection_fleet"]


def test_a_plan_from_the_future_is_stale() -> None:
    assert KnownRegistry(read_at=50.0).age_s(60.0) == 10.0
    assert KnownRegistry(read_at=70.0).age_s(60.0) == float("inf")


def in_process(code: str, **env: str) -> str:
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **env},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return process.stdout.strip().splitlines()[-1]


def test_the_serialised_dag_is_the_same_in_every_process(database: Any, dsn: str, tmp_path: Path) -> None:
    sample_registry.register(database)
    sample_registry.put_model(database, "rendezvous", ("tracks", "spoofing"))
    sample_registry.put_version(database, "rendezvous@1", Role.PRIMARY, z=1, a={"y": 2, "b": 3})
    code = (
        "import json\n"
        "from airflow.serialization.serialized_objects import DagSerialization\n"
        "from airflow_detection.dags.cycles import cycle_dags\n"
        "dag = cycle_dags()['detection_fleet']\n"
        "print(json.dumps(DagSerialization.to_dict(dag), sort_keys=True))\n"
    )
    shared = {CONN_ENV: connection(dsn), "AIRFLOW__DETECTION__PLAN_TTL": "0", "AIRFLOW_HOME": str(tmp_path)}
    one, two = (in_process(code, PYTHONHASHSEED=seed, **shared) for seed in ("1", "2"))
    assert '"spoofing"' in one
    assert one == two


def test_importing_the_factory_loads_no_driver_and_no_web_framework() -> None:
    code = (
        "import sys, airflow_detection.dags.cycles\n"
        "heavy = ('psycopg', 'fastapi', 'numpy', 'orjson', 'airflow.providers.postgres.hooks.postgres')\n"
        "print([m for m in heavy if m in sys.modules])\n"
    )
    assert in_process(code) == "[]"


def test_ids_that_are_too_long_become_tasks_or_dags_that_state_the_reason() -> None:
    long = "m" * 65
    dag = build_dag(cycle(model(long), model("tracks")))
    assert f"model_id must have 1 to 64 characters, not 65: {long!r}" in dag.doc_md
    assert {long, "tracks"} <= set(dag.task_dict)
    beyond = "c" * 300
    from airflow_detection.dags.cycles import dags_of

    odd = cycle(model("tracks"), cycle_id=beyond)
    dags = {d.dag_id: d for d in dags_of(KnownRegistry(read_at=1.0, cycles=(odd, cycle(model("a")))))}
    assert "a" in dags["detection_fleet"].task_dict
    (other,) = (d for d in dags.values() if d.dag_id != "detection_fleet")
    assert list(other.task_dict) == ["registration_error"]
    assert beyond[:100] in other.task_dict["registration_error"].reason


def test_no_secret_is_in_a_rendered_field(
    database: Any, dsn: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "s3cr3t-of-the-registry"  # noqa: S105
    fields = {**json.loads(connection(dsn)), "password": secret, "extra": {"sslpassword": secret}}
    sample_registry.register(database)
    monkeypatch.setenv(CONN_ENV, json.dumps(fields))
    sample_registry.put_cycle(database, legacy_entrypoint="tests.sample_registry:legacy")
    for task in cycle_dags(settings=settings)["detection_fleet"].tasks:
        task.render_template_fields({"params": {}, "conn": "{{ conn.detection_default.password }}"})
        rendered = {name: getattr(task, name) for name in task.template_fields}
        assert set(rendered) <= {"cycle_id", "model_id", "version"}, "nothing that holds a connection"
        assert secret not in str(rendered)
        assert secret not in str(vars(task))
