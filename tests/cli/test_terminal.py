"""What commands write to a terminal: text of rows, ships and files moves no cursor and forges no line."""

from __future__ import annotations

import argparse
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests import sample_registry

from airflow_detection.cli.command import command

if TYPE_CHECKING:
    from tests.cli.commands import Cli

TITLE = "\x1b]0;owned\x07\x9b2J\u202e\x7f\rall is well"
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")
CONSTRAINTS = (
    ("detection_cycles", "cycle_id"),
    ("detection_models", "model_id"),
    ("detection_model_dependencies", "depends_on"),
    ("detection_model_versions", "version"),
)


def _register(database: Any) -> None:
    """A registry from before ids were plain, and an event about a ship with such a name."""
    for table, column in CONSTRAINTS:
        name = f"{column}_has_no_braces_or_control_characters"
        database.execute(f"alter table detection.{table} drop constraint if exists {name}".encode())
    sample_registry.register(database)
    database.execute(
        "insert into detection.detection_models (model_id, cycle_id, entrypoint) values (%s, 'fleet', %s)",
        (TITLE, TITLE),
    )
    database.execute(
        "with v as (insert into detection.detection_model_versions (model_id, version, params)"
        " values (%(t)s::varchar, %(version)s, jsonb_build_object('a', %(t)s::text))"
        " returning version_id)"
        " insert into detection.detection_model_roles"
        " (version_id, model_id, model_no, role, valid, is_founding, actor, reason)"
        " select v.version_id, m.model_id, m.model_no, 'PRIMARY', '[2026-01-01 00:00Z,)', true, %(t)s::text,"
        " %(t)s::text from v, detection.detection_models m where m.model_id = %(t)s::varchar",
        {"t": TITLE, "version": "\x1b]0;v\x07"},
    )
    database.execute("update detection.detection_cycles set description = %s, schedule = %s", (TITLE, TITLE))
    database.execute(
        "insert into detection.detection_events (category, severity, model_id, version_id, entity_id,"
        " cycle_started_at, first_seen_at, last_seen_at)"
        " values (%(t)s::varchar, 'CRITICAL', %(t)s::varchar, 1, %(t)s::text, %(at)s, %(at)s, %(at)s)",
        {"t": TITLE, "at": datetime(2026, 3, 1, 12, 30, tzinfo=UTC)},
    )


def test_no_command_writes_a_raw_control_sequence(cli: Cli, database: Any, tmp_path: Path) -> None:
    _register(database)
    file, cycle = tmp_path / "registry.yaml", json.dumps(TITLE)
    file.write_text(f"cycles:\n  {cycle}: {{schedule: {cycle}}}\nmodels:\n  {cycle}: {{cycle: {cycle}}}\n")
    positions = tmp_path / "positions.csv"
    positions.write_text(f"{TITLE},{TITLE}\n{TITLE},1\n")
    (tmp_path / "state").mkdir()
    commands = [
        ["snapshot", "--at", "2026-03-01T13:00Z"],
        ["snapshot", "--at", "2026-03-01T13:00Z", "--json"],
        ["snapshot", "--at", "2026-03-01T13:00Z", "--diagnostic", "--html", str(tmp_path / "r.html")],
        ["plan", "fleet"],
        ["plan", "fleet", "--output", "json"],
        ["plan", "--diff"],
        ["plan", "--diff", "--output", "json"],
        ["plan", TITLE],
        ["check"],
        ["apply", str(file)],
        ["promote", f"{TITLE}@1"],
        ["correct", f"{TITLE}@1", "PRIMARY", "--from", "2026-01-01", "--reason", TITLE],
        ["confirm", TITLE, "--reason", TITLE],
        ["ais", "load", str(positions)],
        ["partitions", "plan"],
    ]
    ran = cli(*commands, AIRFLOW__DETECTION__STATE_DIR=str(tmp_path / "state"))
    for argv, result in zip(commands, ran, strict=True):
        assert not RAW.search(result.out), argv
        assert not RAW.search(result.err), argv
        assert "Traceback" not in result.err, argv
        assert "all is well" not in result.out.splitlines(), "no line is forged"
    shown = {tuple(argv): result.out for argv, result in zip(commands, ran, strict=True)}
    assert "\\x1b]0;owned" in shown["snapshot", "--at", "2026-03-01T13:00Z"].replace("\n", "")
    assert json.loads(shown["snapshot", "--at", "2026-03-01T13:00Z", "--json"])["sections"]
    plan = json.loads(shown["plan", "fleet", "--output", "json"])
    assert plan["description"] == TITLE, "JSON gives every character back"
    assert TITLE in plan["topo_order"]


def test_an_error_that_nobody_foresaw_is_written_without_control_sequences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(_: argparse.Namespace) -> None:
        raise RuntimeError(TITLE)

    with pytest.raises(SystemExit) as ended:
        command(run)(argparse.Namespace())
    err = capsys.readouterr().err
    assert ended.value.code == 1
    assert "Traceback" in err
    assert "\\x1b]0;owned" in err
    assert not RAW.search(err)


def test_what_the_database_says_is_written_without_control_sequences(cli: Cli, database: Any) -> None:
    database.execute(
        "create function raise_it() returns trigger language plpgsql as"
        " $$ begin raise exception '%', new.reason; end $$"
    )
    database.execute(
        "create trigger raise_it before insert on detection.detection_confirmations"
        " for each row execute function raise_it()"
    )
    (ran,) = cli(["confirm", "fleet", "--reason", TITLE])
    assert ran.code == 1
    assert ran.err.startswith("\\x1b]0;owned")
    assert not RAW.search(ran.err)


def test_a_reader_gets_the_whole_of_what_a_dag_cuts(cli: Cli, database: Any) -> None:
    sample_registry.register(database, tracks={"blob": "y" * 100_000})
    sample_registry.put_cycle(database, description="z" * 100_000)
    (ran,) = cli(["plan", "fleet", "--output", "json"])
    plan = json.loads(ran.out)
    assert plan["description"] == "z" * 100_000
    (tracks,) = (m for m in plan["models"] if m["model_id"] == "tracks")
    assert "y" * 100_000 in [v["params"].get("blob") for v in tracks["versions"]]


def test_the_demo_writes_none_either(capsys: pytest.CaptureFixture[str]) -> None:
    from demo.console import escape, make_console

    make_console().print(escape(f"[red]{TITLE}"))
    out = capsys.readouterr().out
    assert out.startswith("[red]\\x1b]0;owned")
    assert not RAW.search(out)
