"""`airflow detection compare` in the real Airflow CLI, and the same object from the hook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.operators.airflow_runs import airflow_uri
from tests.snapshot.manifests import FIRST, STEP
from tests.snapshot.test_version_comparison import HOSTILE, Planted

from airflow_detection.hooks.detection import DetectionHook
from airflow_detection.store.labels import known_instant

if TYPE_CHECKING:
    import pytest
    from tests.cli.commands import Cli
    from tests.cli.test_cli import Connection


def test_the_command_and_the_hook_give_the_same_comparison(
    cli: Cli, database: Connection, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted(database)
    for number in range(3):
        planted.both(number, {HOSTILE: 0.1, "b": 0.9}, {HOSTILE: 0.9, "b": 0.2})
    planted.label(HOSTILE, True)
    at = known_instant(planted.db)
    planted.label("b", True)
    page = tmp_path / "page.html"
    pair = ["compare", "tracks@1", "tracks@2"]
    (alone,) = cli([*pair, "--html", str(page)])
    assert (alone.code, '<a href="http' in page.read_text()) == (0, False), "Airflow's address is not known"
    shown, as_json, html, nowhere, unknown = cli(
        pair,
        [*pair, "--from", "2026-03-01T06:05Z", "--as-known-at", at.isoformat(), "--json"],
        [*pair, "--html", str(page)],
        [*pair, "--html", str(tmp_path / "none" / "page.html")],
        ["compare", "tracks@1", "tracks@3"],
        AIRFLOW__API__BASE_URL="https://air.example/flow/",
    )
    assert shown.code == 0, shown.err
    assert "tracks@1 and tracks@2 over 3 cycles" in shown.out
    assert "\x1b[2J" not in shown.out
    value = json.loads(as_json.out)
    assert (value["cycles"], value["labelled"]["units"], value["known_at"]) == (2, 1, at.isoformat())
    assert (html.code, html.out) == (0, "")
    assert "<script" not in page.read_text()
    address = (
        "https://air.example/flow/plugin/detection?view=compare&amp;first=tracks%401&amp;second=tracks%402"
    )
    assert f'<a href="{address}">Open in Airflow</a>' in page.read_text()
    assert nowhere.err == f"{tmp_path}/none/page.html: No such file or directory\n"
    assert unknown.err == "version 'tracks@3' is not registered; the nearest name is 'tracks@2'\n"
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", airflow_uri(dsn))
    monkeypatch.delenv("PREDICTION_USE_MODEL_REGISTRY", raising=False)
    same = DetectionHook().compare("tracks@1", "tracks@2", start=FIRST + STEP, known_at=at)
    assert same.to_json() == value
