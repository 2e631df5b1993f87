"""`airflow detection labels` in the real Airflow CLI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from tests import sample_registry

if TYPE_CHECKING:
    from tests.cli.commands import Cli
    from tests.cli.test_cli import Connection


HOSTILE = "[red]\x1b]0;owned[/nope]"


def test_labels_are_loaded_listed_and_told_by_line(
    cli: Cli,
    database: Connection,
    tmp_path: Path,
) -> None:
    sample_registry.register(database)
    file = tmp_path / "labels.csv"
    head = "entity_id,valid_from,valid_to,is_positive,model_id\n"
    file.write_text(
        f"{head}a,2026-03-01T00:00Z,2026-03-02T00:00Z,true,\n{HOSTILE},2026-03-01T00:00Z,,no,tracks\n"
    )
    bad = tmp_path / "bad.csv"
    bad.write_text(f"{head}b,\x1b[2Jnever,,true,\nc,2026-03-01T00:00Z,,true,\n")
    load = ["labels", "load", "--cycle", "fleet", "--source", "desk", "--actor", "ana"]
    first, second, malformed, missing, table, plain, as_json, as_yaml, then, unknown = cli(
        [*load, str(file)],
        [*load, str(file)],
        [*load, str(bad)],
        [*load, str(tmp_path / "none.csv")],
        ["labels", "list", "fleet"],
        ["labels", "list", "fleet", "--output", "plain"],
        ["labels", "list", "fleet", "--model", "tracks", "--output", "json", "--limit", "2"],
        ["labels", "list", "fleet", "--entity", "a", "--output", "yaml"],
        ["labels", "list", "fleet", "--known-at", "2026-01-01"],
        ["labels", "list", "flet"],
    )
    assert (first.code, first.out) == (0, f"{file}: 2 rows read, 2 new, 0 known already\n")
    assert second.out == f"{file}: 2 rows read, 0 new, 2 known already\n"
    assert malformed.code == 1
    assert malformed.out == f"{bad}: 2 rows read, 1 new, 0 known already, 1 malformed\n"
    assert malformed.err.splitlines() == [
        f"{bad}:2: valid_from is '\\x1b[2Jnever': must be an instant such as 2026-01-31T00:00:00Z",
        f"{bad}: 1 of 2 rows are malformed",
    ]
    assert (missing.code, missing.err) == (1, f"{tmp_path}/none.csv: No such file or directory\n")
    for shown in (table, plain):
        assert shown.code == 0
        assert "[red]\\x1b]0;owned[/nope]" in shown.out
        assert "\x1b]0" not in shown.out
    rows = json.loads(as_json.out)
    assert [(row["entity"], row["is_positive"], row["actor"]) for row in rows] == [
        ("c", True, "ana"), (HOSTILE, False, "ana"),
    ]  # fmt: skip
    assert yaml.safe_load(as_yaml.out)[0]["source"] == "desk"
    assert then.out == "No data found\n"
    assert (unknown.code, unknown.err) == (1, "cycle 'flet' is not registered; the nearest name is 'fleet'\n")
