"""`airflow detection promote`, `rollback`, `assign`, `promotions` and listings, in the real Airflow CLI."""

from __future__ import annotations

import getpass
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests import sample_registry
from tests.sample_registry import AT, SCHEMA

from airflow_detection.cycle import inline, planning
from airflow_detection.domain.specs import Execution, Mode, Role
from airflow_detection.store import promotions
from airflow_detection.store.database import Database

if TYPE_CHECKING:
    from tests.cli.commands import Cli

ME = getpass.getuser()


@pytest.fixture
def fleet(database: Any) -> Database:
    """The fleet, after one cycle."""
    sample_registry.register(database)
    sample_registry.put_cycle(database, execution=Execution.INLINE)
    db = Database(database, SCHEMA)
    planning.open_cycle(db, "fleet", AT, mode=Mode.AS_OF)
    inline.run_inline(db, sample_registry.SETTINGS, "fleet", AT, mode=Mode.AS_OF)
    return db


def rows(text: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(text)
    return listed


def test_a_promotion_by_hand_shows_the_evidence_and_is_recorded_whatever_comes_of_it(
    cli: Cli, fleet: Database
) -> None:
    refused, forced, listed, roles, back, again, shown = cli(
        ["promote", "tracks@2"],
        ["promote", "tracks@2", "--force", "--reason", "the feed has changed"],
        ["promotions", "list", "--output", "json"],
        ["roles", "tracks", "--output", "json"],
        ["rollback", "tracks", "--reason", "it was worse"],
        ["rollback", "tracks"],
        ["promotions", "show", "2"],
    )
    assert refused.code == 1
    assert "--force promotes it all the same" in refused.err
    assert "Traceback" not in refused.err
    assert forced.code == 0
    assert (
        forced.out.splitlines()[-1]
        == "tracks@2 is PRIMARY from now on in place of tracks@1, which is a SHADOW"
    )
    assert [(p["version"], p["state"], p["requested_by"]) for p in rows(listed.out)] == [
        ("tracks@2", "KEPT", ME),
        ("tracks@2", "REFUSED", ME),
    ]
    newest = rows(roles.out)[:2]
    assert {(r["version"], r["role"], r["actor"], r["promotion_id"]) for r in newest} == {
        ("2", "PRIMARY", ME, 2),
        ("1", "SHADOW", ME, 2),
    }
    assert newest[0]["reason"].startswith("the feed has changed; forced: cycles: ")
    assert back.out == "tracks@1 is PRIMARY again; promotion 2 is ROLLED_BACK\n"
    assert (again.code, again.out) == (0, "the last promotion of tracks is rolled back already\n")
    states = json.loads(shown.out)["states"]
    assert [s["state"] for s in states] == [
        "REQUESTED",
        "JUDGED",
        "APPROVED",
        "IN_FORCE",
        "KEPT",
        "ROLLED_BACK",
    ]
    assert states[1]["evidence_digest"] == promotions.digest_of(states[1]["evidence"])
    assert states[1]["evidence"]["decision"]["has_passed"] is False


def test_what_cannot_be_rolled_back_or_promoted_is_told_in_a_sentence(cli: Cli, fleet: Database) -> None:
    promotions.ask(fleet, "tracks@2", actor="ana")
    by_role, unknown, none, busy, withdrawn, twice = cli(
        ["rollback", "tracks"],
        ["promote", "tracks@9", "--force"],
        ["promotions", "show", "9"],
        ["promote", "tracks@2", "--force"],
        ["promotions", "withdraw", "1", "--actor", "ben"],
        ["promotions", "withdraw", "1"],
    )
    assert (
        by_role.err
        == "no promotion of 'tracks' can be rolled back: tracks@1 is PRIMARY, and not by a promotion\n"
    )
    assert unknown.err == "version 'tracks@9' is not registered; the nearest name is 'tracks@2'\n"
    assert none.err == "there is no promotion 9\n"
    assert busy.err.startswith("tracks@2 cannot be promoted: promotion 1 of tracks@2 is REQUESTED since ")
    assert withdrawn.out == "promotion 1 of tracks@2 is WITHDRAWN\n"
    assert twice.err == "promotion 1 is WITHDRAWN and cannot become WITHDRAWN\n"
    assert {ran.code for ran in (by_role, unknown, none, busy, twice)} == {1}


def test_a_first_champion_needs_force_for_there_is_nothing_to_compare_it_with(
    cli: Cli, fleet: Database
) -> None:
    sample_registry.put_model(fleet.conn, "alone")
    sample_registry.put_version(fleet.conn, "alone@1", ids=["a"])
    refused, forced, assigned, already, ended = cli(
        ["promote", "alone@1"],
        ["promote", "alone@1", "--force"],
        ["assign", "tracks@2", "CHALLENGER", "--reason", "to be compared"],
        ["assign", "tracks@2", "CHALLENGER"],
        ["assign", "tracks@2", "none"],
    )
    assert refused.err == "alone@1 cannot be judged: alone has no PRIMARY to compare with\n"
    assert forced.out == "alone@1 is PRIMARY from now on\n"
    assert assigned.out == "tracks@2 is CHALLENGER from now on\n"
    assert already.out == "tracks@2 is CHALLENGER already\n"
    assert ended.out == "tracks@2 is without a role from now on\n"


def test_listings_show_what_is_stored(cli: Cli, fleet: Database) -> None:
    versions, runs, at, outputs, of_shadow, events, table, plain, unknown = cli(
        ["versions", "--model", "tracks", "--output", "json"],
        ["runs", "fleet", "--output", "json"],
        ["runs", "fleet", "--at", "2026-03-01T00:00Z", "--output", "json"],
        ["outputs", "tracks", "--output", "json"],
        ["outputs", "tracks@2", "--at", AT.isoformat(), "--entity", "c", "--output", "json"],
        ["events", "--output", "json"],
        ["runs", "fleet"],
        ["versions", "--output", "plain"],
        ["roles", "nobody"],
    )
    assert [(v["version"], v["role"]) for v in rows(versions.out)] == [
        ("tracks@1", "PRIMARY"),
        ("tracks@2", "SHADOW"),
    ]
    assert [(r["model_id"], r["version"], r["outcome"]) for r in rows(runs.out)] == [
        ("spoofing", "1", "SUCCEEDED"),
        ("tracks", "1", "SUCCEEDED"),
        ("tracks", "2", "SUCCEEDED"),
    ]
    assert rows(at.out) == []
    assert [(o["entity_id"], o["version"], o["outputs"]["id"]) for o in rows(outputs.out)] == [
        ("a", "1", "a"),
        ("b", "1", "b"),
    ]
    assert [o["entity_id"] for o in rows(of_shadow.out)] == ["c"]
    assert rows(events.out)[0]["entity_id"] == "x", "spoofing scores what it sees"
    assert "SUCCEEDED" in table.out
    assert "tracks@1" in plain.out
    assert unknown.err == "model 'nobody' is not registered; known: spoofing, tracks\n"


OFF = "2026-03-01T12:07:00+00:00"
NO_TICK = (
    f"cycle 'fleet' has no tick at {OFF}: '*/5 * * * *' has 2026-03-01T12:05:00+00:00 and"
    " 2026-03-01T12:10:00+00:00\n"
)
NO_MODEL = "model 'track' is not registered; the nearest name is 'tracks'\n"


def test_a_listing_of_what_there_is_not_names_it(cli: Cli, fleet: Database) -> None:
    asked = {
        ("events", "--model", "track"): NO_MODEL,
        ("versions", "--model", "track"): NO_MODEL,
        ("promotions", "list", "--model", "track"): NO_MODEL,
        ("labels", "list", "fleet", "--model", "track"): NO_MODEL,
        ("roles", "track"): NO_MODEL,
        ("outputs", "track"): NO_MODEL,
        ("runs", "fleet", "--at", OFF): NO_TICK,
        ("outputs", "tracks", "--at", OFF): NO_TICK,
        ("outputs", "tracks@7"): "version 'tracks@7' is not registered; the nearest name is 'tracks@2'\n",
        ("runs", "flet"): "cycle 'flet' is not registered; the nearest name is 'fleet'\n",
    }
    ended = cli(*(list(args) for args in asked), ["runs", "fleet", "--at", "2026-03-01T13:00Z"])
    for ran, (args, message) in zip(ended, asked.items(), strict=False):
        assert (ran.code, ran.out) == (1, ""), args
        assert ran.err == message, args
    assert (ended[-1].code, ended[-1].out) == (0, "No data found\n"), "a tick at which nothing ran"


def test_a_replay_is_listed_without_a_role(cli: Cli, fleet: Database) -> None:
    sample_registry.put_version(fleet.conn, "tracks@3", Role.CHALLENGER, since=None, ids=["a"])
    planning.open_cycle(fleet, "fleet", AT, mode=Mode.OVERRIDE, replay=["tracks@3"])
    inline.run_inline(fleet, sample_registry.SETTINGS, "fleet", AT, mode=Mode.OVERRIDE)
    runs, outputs = cli(
        ["runs", "fleet", "--output", "json"],
        ["outputs", "tracks@3", "--at", AT.isoformat(), "--output", "json"],
    )
    assert [(r["version"], r["role"]) for r in rows(runs.out) if r["is_replay"]] == [("3", None)]
    assert [(o["entity_id"], o["role"], o["is_replay"]) for o in rows(outputs.out)] == [("a", None, True)]
