"""The registry against a real Postgres."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from tests.sample_registry import AT, note_run

from airflow_detection.domain.specs import Artifact, CycleSpec, ModelSpec, Role
from airflow_detection.errors import MigrationError, PlanError, RegistrationError, RegistryUnavailable
from airflow_detection.store import registry, roles
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database

Connection = psycopg.Connection[tuple[Any, ...]]
SCHEMA = "detection"
START = datetime(2020, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def cycle(cycle_id: str = "sea", **settings: Any) -> CycleSpec:
    return CycleSpec(
        **{
            "cycle_id": cycle_id,
            "schedule": "*/5 * * * *",
            "lookback": timedelta(hours=1),
            "start_date": START,
            **settings,
        }
    )


def model(model_id: str, *depends_on: str, cycle_id: str = "sea", **settings: Any) -> ModelSpec:
    return ModelSpec(
        model_id=model_id, cycle_id=cycle_id, entrypoint="m:M", depends_on=depends_on, **settings
    )


def give(conn: Connection, label: str, role: Role | None, since: datetime | None = None) -> bool:
    model_id, _, version = label.partition("@")
    return roles.assign_role(
        Database(conn, SCHEMA), model_id=model_id, version=version, role=role, since=since
    )


def champion(conn: Connection, at: datetime | None, known_at: datetime | None = None) -> str | None:
    specs = {spec.model_id: spec for spec in registry.models_at(Database(conn, SCHEMA), "sea", at, known_at)}
    primary = specs["a"].primary if "a" in specs else None
    return primary.version if primary else None


def now(conn: Connection) -> datetime:
    row = conn.execute("select clock_timestamp()").fetchone()
    assert row is not None
    return row[0]


def promoted_at(conn: Connection) -> datetime:
    row = conn.execute(
        "select max(lower(valid)) from detection.detection_model_roles where role = 'PRIMARY'"
    ).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def registered(database: Connection) -> Connection:
    """A cycle with model `a`: champion 1.0 and shadow 1.1 since 2020, 1.2 without a role."""
    registry.put_cycle(Database(database, SCHEMA), cycle())
    registry.put_model(Database(database, SCHEMA), model("a"))
    for version in ("1.0", "1.1", "1.2"):
        registry.put_version(Database(database, SCHEMA), model_id="a", version=version, params={"v": version})
    give(database, "a@1.0", Role.PRIMARY, START)
    give(database, "a@1.1", Role.SHADOW, START)
    return database


def test_what_is_put_is_what_is_read(database: Connection) -> None:
    spec = cycle(lookback=timedelta(minutes=90), input_query="select 1", max_active_runs=3, description="x")
    registry.put_cycle(Database(database, SCHEMA), spec)
    registry.put_model(
        Database(database, SCHEMA), model("a", "b", score_key="s", entity_key="e", task_options={"pool": "p"})
    )
    assert registry.cycle_specs(Database(database, SCHEMA)) == [spec]
    assert registry.cycle_spec(Database(database, SCHEMA), "sea") == spec
    assert registry.model_specs(Database(database, SCHEMA)) == [
        model("a", "b", score_key="s", entity_key="e", task_options={"pool": "p"})
    ]
    assert registry.cycle_of(Database(database, SCHEMA), "a") == "sea"


def test_a_past_instant_sees_the_founding_roles_and_nothing_before_them(registered: Connection) -> None:
    (spec,) = registry.models_at(Database(registered, SCHEMA), "sea", START)
    assert [(v.version, v.role, v.entrypoint, v.params) for v in spec.versions] == [
        ("1.0", Role.PRIMARY, "m:M", {"v": "1.0"}),
        ("1.1", Role.SHADOW, "m:M", {"v": "1.1"}),
    ]
    assert registry.models_at(Database(registered, SCHEMA), "sea", START - MICROSECOND) == []


def test_a_promotion_changes_the_champion_at_one_instant_without_a_gap(registered: Connection) -> None:
    assert give(registered, "a@1.1", Role.PRIMARY)
    at = promoted_at(registered)
    assert champion(registered, at - MICROSECOND) == "1.0"
    assert champion(registered, at) == "1.1"
    assert champion(registered, None) == "1.1"
    assert not give(registered, "a@1.1", Role.PRIMARY)
    before = registry.models_at(Database(registered, SCHEMA), "sea", at - MICROSECOND)[0]
    assert [v.label for v in before.shadows] == ["a@1.1"]
    assert registry.models_at(Database(registered, SCHEMA), "sea", at)[0].shadows == ()


def test_a_plan_of_the_past_is_the_same_for_ever(registered: Connection) -> None:
    registry.put_model(Database(registered, SCHEMA), model("b"))
    registry.put_version(Database(registered, SCHEMA), model_id="b", version="1", params={})
    give(registered, "b@1", Role.PRIMARY, START)
    asked = [START, START + timedelta(days=900)]
    for change in (
        lambda: give(registered, "a@1.1", Role.PRIMARY),
        lambda: registry.put_model(Database(registered, SCHEMA), model("a", "b")),
        lambda: give(registered, "a@1.2", Role.CHALLENGER),
        lambda: give(registered, "a@1.0", Role.PRIMARY),
        lambda: registry.put_model(Database(registered, SCHEMA), model("a")),
        lambda: give(registered, "a@1.0", None),
    ):
        asked.append(now(registered))
        earlier = [registry.models_at(Database(registered, SCHEMA), "sea", at) for at in asked]
        change()
        assert [registry.models_at(Database(registered, SCHEMA), "sea", at) for at in asked] == earlier
    assert champion(registered, None) is None


def test_known_at_leaves_out_what_was_recorded_later(registered: Connection) -> None:
    first = now(registered)
    give(registered, "a@1.2", Role.PRIMARY)
    later = now(registered)
    assert champion(registered, later) == "1.2"
    assert champion(registered, later, known_at=first) == "1.0"
    assert champion(registered, START, known_at=START) == "1.0"


def test_a_rollback_is_a_new_row(registered: Connection) -> None:
    give(registered, "a@1.1", Role.PRIMARY)
    give(registered, "a@1.0", Role.PRIMARY)
    rows = registered.execute(
        "select count(*) from detection.detection_model_roles where role = 'PRIMARY'"
    ).fetchone()
    assert rows == (3,)
    assert champion(registered, None) == "1.0"


def test_a_retired_champion_leaves_a_model_without_versions(registered: Connection) -> None:
    assert give(registered, "a@1.0", None)
    assert not give(registered, "a@1.0", None)
    (spec,) = registry.models_at(Database(registered, SCHEMA), "sea", None)
    assert spec.primary is None
    assert [v.version for v in spec.shadows] == ["1.1"]


CONNECTIONS = 8


def promote_at_once(conn: Connection, dsn: str, rounds: int) -> None:
    """In each round 8 connections promote a version each, while a ninth looks: one champion, always."""
    for number in range(CONNECTIONS):
        registry.put_version(Database(conn, SCHEMA), model_id="a", version=f"2.{number}", params={})
    gate = threading.Barrier(CONNECTIONS)
    failures: list[BaseException] = []
    is_over = threading.Event()

    def promote(number: int) -> None:
        with connect(dsn) as own:
            for _ in range(rounds):
                gate.wait(60)
                give(own, f"a@2.{number}", Role.PRIMARY)

    def look() -> None:
        with connect(dsn) as own:
            while not is_over.is_set():
                assert champion(own, None) is not None
                open_rows = own.execute(
                    "select count(*) from detection.detection_model_roles"
                    " where role = 'PRIMARY' and upper_inf(valid) and superseded_at is null"
                ).fetchone()
                assert open_rows == (1,)

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
            gate.abort()

    works = [look, *(partial(promote, number) for number in range(CONNECTIONS))]
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join()
    is_over.set()
    threads[0].join()
    assert failures == []
    history = conn.execute(
        "select count(*), count(*) filter (where upper(valid) is distinct from following)"
        " from (select valid, lead(lower(valid)) over (order by lower(valid)) as following"
        " from detection.detection_model_roles where role = 'PRIMARY') as history"
    ).fetchone()
    # The champion of the round before is promoted again only if another took over in between.
    assert history is not None
    assert history[0] > rounds * (CONNECTIONS - 1)
    assert history[1] == 0, "one champion's end is the next one's start, to the microsecond"


def test_promotions_at_once_leave_one_champion_and_no_gap(registered: Connection, dsn: str) -> None:
    promote_at_once(registered, dsn, rounds=30)


@pytest.mark.long
def test_a_thousand_rounds_of_promotions_at_once_leave_one_champion(registered: Connection, dsn: str) -> None:
    promote_at_once(registered, dsn, rounds=1000)


def test_a_plan_waits_for_a_change_that_has_begun(registered: Connection, dsn: str) -> None:
    seen: list[str | None] = []

    def ask() -> None:
        with connect(dsn) as conn:
            seen.append(champion(conn, None))

    with registry.with_exclusive_lock(Database(registered, SCHEMA)):
        give(registered, "a@1.1", Role.PRIMARY)
        reader = threading.Thread(target=ask)
        reader.start()
        reader.join(0.3)
        assert seen == []
    reader.join()
    assert seen == ["1.1"]


def test_a_version_changes_freely_until_it_has_run(registered: Connection) -> None:
    def put(version: str, **settings: Any) -> int:
        return registry.put_version(
            Database(registered, SCHEMA), **{"model_id": "a", "version": version, "params": {}, **settings}
        )

    assert put("1.0", params={"v": 2}) == put("1.0", params={"v": 3}, entrypoint="m:N")
    note_run(registered, "a@1.0", "FAILED")
    put("1.0", params={"v": "1.0"})
    note_run(registered, "a@1.0", at=AT + timedelta(minutes=5))
    put("1.0", params={"v": "1.0"}, notes="notes may change")
    with pytest.raises(RegistrationError, match=r"version 1\.0 of model a has run, its params cannot change"):
        put("1.0", params={"v": "other"})
    with pytest.raises(RegistrationError, match="its entrypoint cannot change: register another version"):
        put("1.0", params={"v": "1.0"}, entrypoint="m:N")
    here = Artifact(uri="/models/a.bin", sha256="0" * 64)
    with pytest.raises(RegistrationError, match="its artifact cannot change: register another version"):
        put("1.0", params={"v": "1.0"}, artifact=here)
    put("1.1", params={"v": 4})
    assert put("1.1", params={"v": 4}, artifact=here) == put("1.1", params={"v": 4}, artifact=here)
    assert registry.versions(Database(registered, SCHEMA), "a")[1].artifact == here
    for artifact, reason in (
        (replace(here, uri="models/a.bin"), "artifact.uri is 'models/a.bin': must be an absolute path"),
        (replace(here, uri="s3://key:pw@bucket/a"), "artifact.uri has a password"),
        (replace(here, uri="/models/{{ x }}"), "must have no braces"),
        (replace(here, uri="/" * 2001), "must have at most 2000 characters, not 2001"),
        (replace(here, sha256="F" * 64), "artifact.sha256 must be 64 hex digits in lower case"),
    ):
        with pytest.raises(RegistrationError, match=reason):
            put("1.1", params={"v": 4}, artifact=artifact)
    for column in ("{}", "5", '{"uri": "/a"}', '{"uri": "", "sha256": "%s"}' % ("0" * 64)):
        with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.InvalidParameterValue)):
            registered.execute("update detection.detection_model_versions set artifact = %s", (column,))
    with pytest.raises(psycopg.errors.RestrictViolation, match="has held a role and cannot be removed"):
        registered.execute("delete from detection.detection_model_versions where version = '1.1'")
    with pytest.raises(RegistrationError, match=r"a@3: params\.v is not a finite number: nan"):
        put("3", params={"v": float("nan")})


def test_a_model_changes_freely_until_it_has_run(registered: Connection) -> None:
    def put(**settings: Any) -> None:
        given = {"entrypoint": "m:M", "cycle_id": "sea", **settings}
        registry.put_model(Database(registered, SCHEMA), ModelSpec(model_id="a", **given))

    registry.put_cycle(Database(registered, SCHEMA), cycle("land"))
    put(score_key="other", entity_key="id", entrypoint="m:N", cycle_id="land")
    put()
    note_run(registered, "a@1.1")
    for settings, field in (
        ({"entrypoint": "m:N"}, "its entrypoint cannot change: give a new version an entry point of its own"),
        ({"score_key": "s"}, "its score_key cannot change: register another model"),
        ({"entity_key": "e", "cycle_id": "land"}, "its entity_key, cycle cannot change"),
    ):
        with pytest.raises(RegistrationError, match=field):
            put(**settings)
    put(task_options={"queue": "big"}, is_enabled=False)


@pytest.mark.parametrize(
    ("label", "role", "since", "reason"),
    [
        ("a@1.2", Role.PRIMARY, START, "'1.0' is PRIMARY"),
        ("a@1.1", Role.CHALLENGER, START, "history of 'a' cannot be rewritten"),
        ("a@1.2", Role.SHADOW, datetime(2999, 1, 1, tzinfo=UTC), "in the future"),
        ("a@9", Role.SHADOW, None, "version 'a@9' is not registered"),
    ],
)
def test_a_role_that_cannot_be_is_refused(
    registered: Connection, label: str, role: Role, since: datetime | None, reason: str
) -> None:
    before = registry.versions(Database(registered, SCHEMA))
    with pytest.raises(RegistrationError, match=reason):
        give(registered, label, role, since)
    assert registry.versions(Database(registered, SCHEMA)) == before


def test_a_founding_role_cannot_reach_behind_a_cycle_that_was_planned(registered: Connection) -> None:
    registered.execute(
        "insert into detection.detection_cycle_runs (cycle_id, cycle_started_at, mode, plan, plan_digest)"
        " values ('sea', '2021-01-01Z', 'as_of', '{}', 'd')"
    )
    with pytest.raises(RegistrationError, match="cycle 'sea' has been planned since"):
        give(registered, "a@1.2", Role.SHADOW, datetime(2021, 1, 1, tzinfo=UTC))
    assert give(registered, "a@1.2", Role.SHADOW, datetime(2021, 1, 1, 0, 0, 1, tzinfo=UTC))


def test_a_founding_role_cannot_reach_behind_a_cycle_that_a_hand_written_dag_ran(
    registered: Connection,
) -> None:
    """Such a Dag records no plan."""
    at = datetime(2021, 1, 1, tzinfo=UTC)
    for version, is_replay, later in (("1.0", False, 0), ("1.1", True, 5)):
        registered.execute(
            "insert into detection.detection_model_runs (cycle_id, cycle_started_at, version_id, is_replay,"
            " model_id, role, outcome, attempt, started_at) select 'sea', %s, version_id, %s, model_id,"
            " 'PRIMARY', 'SUCCEEDED', 1, now() from detection.detection_model_versions"
            " where model_id = 'a' and version = %s",
            (at + timedelta(days=later), is_replay, version),
        )
    with pytest.raises(RegistrationError, match="cycle 'sea' has been planned since"):
        give(registered, "a@1.2", Role.SHADOW, at)
    assert give(registered, "a@1.2", Role.SHADOW, at + timedelta(seconds=1)), (
        "a replay is nothing that was live"
    )


def test_history_once_made_takes_no_founding_rows(registered: Connection) -> None:
    give(registered, "a@1.1", Role.PRIMARY)
    with pytest.raises(RegistrationError, match="cannot be rewritten"):
        give(registered, "a@1.2", Role.SHADOW, START)


def test_dependencies_of_a_model_without_history_leave_no_trace(registered: Connection) -> None:
    for upstreams in (("x",), ("a", "x"), ("a",)):
        registry.put_model(Database(registered, SCHEMA), model("b", *upstreams))
    registry.put_version(Database(registered, SCHEMA), model_id="b", version="1", params={})
    give(registered, "b@1", Role.PRIMARY, START)
    assert registry.models_at(Database(registered, SCHEMA), "sea", START)[1].depends_on == ("a",)


def test_named_versions_are_replays_and_unknown_names_are_named(registered: Connection) -> None:
    (named,) = registry.named_versions(Database(registered, SCHEMA), ["a@1.2"])
    assert (named.label, named.role, named.is_replay, named.params) == (
        "a@1.2",
        Role.SHADOW,
        True,
        {"v": "1.2"},
    )
    with pytest.raises(PlanError, match=r"'a@1\.3' is not registered; the nearest name is 'a@1\.\d'"):
        registry.named_versions(Database(registered, SCHEMA), ["a@1.3"])
    with pytest.raises(PlanError, match="write model@version"):
        registry.named_versions(Database(registered, SCHEMA), ["a"])
    with pytest.raises(PlanError, match="cycle 'see' is not registered; the nearest name is 'sea'"):
        registry.cycle_spec(Database(registered, SCHEMA), "see")
    with pytest.raises(PlanError, match="model 'z' is not registered"):
        registry.cycle_of(Database(registered, SCHEMA), "z")


def test_an_id_over_64_characters_is_a_value_error(database: Connection) -> None:
    with pytest.raises(ValueError, match="1 to 64 characters, not 65"):
        registry.put_cycle(Database(database, SCHEMA), cycle("c" * 65))
    registry.put_cycle(Database(database, SCHEMA), cycle("c" * 64))
    with pytest.raises(ValueError, match="1 to 64 characters, not 65"):
        registry.put_model(Database(database, SCHEMA), model("m" * 65, cycle_id="c" * 64))


def test_the_session_time_zone_changes_no_answer(registered: Connection) -> None:
    expected = (
        registry.models_at(Database(registered, SCHEMA), "sea", START),
        registry.cycle_specs(Database(registered, SCHEMA)),
    )
    registered.execute("set time zone 'Asia/Tokyo'")
    assert (
        registry.models_at(Database(registered, SCHEMA), "sea", START),
        registry.cycle_specs(Database(registered, SCHEMA)),
    ) == expected


def test_a_database_without_a_registry_and_one_that_is_gone_are_told_apart(empty_dsn: str) -> None:
    with connect(empty_dsn) as conn, pytest.raises(MigrationError, match="airflow detection db migrate"):
        registry.cycle_specs(Database(conn, SCHEMA))
    with pytest.raises(RegistryUnavailable):
        registry.cycle_specs(Database(conn, SCHEMA))


def test_cycles_are_registered_all_or_none(database: Any) -> None:
    db = Database(database, SCHEMA)
    refused = replace(cycle("c2"), lookback=timedelta(days=40_000))
    with pytest.raises(RegistrationError, match="lookback"):
        registry.put_cycles(db, [cycle("c1"), refused, cycle("c3")])
    assert registry.cycle_specs(db) == []
    registry.put_cycles(db, [cycle("c1"), cycle("c2")])
    registry.put_cycles(db, [replace(cycle("c1"), schedule="0 3 * * *")])
    assert {s.cycle_id: s.schedule for s in registry.cycle_specs(db)} == {
        "c1": "0 3 * * *",
        "c2": cycle("c2").schedule,
    }


@pytest.mark.parametrize(
    "value",
    [10**22, -(10**19), 2**63, 2**64, 2**64 + 1, 2**53 + 1, 0.1, 1e300, 5e-324, "9" * 40, [None, True]],
)
def test_json_of_the_database_keeps_every_value(value: object) -> None:
    text = json.dumps({"a": [value]})
    for form in (text, text.encode()):
        (found,) = registry.loads(form)["a"]
        assert (found, type(found)) == (value, type(value))
