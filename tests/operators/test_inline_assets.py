"""An inline cycle announces the outputs that it has made anew, and no others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests import sample_registry
from tests.sample_registry import AT

from airflow_detection.domain.specs import Execution, Role

if TYPE_CHECKING:
    from tests.operators.airflow_runs import Cycles

pytestmark = pytest.mark.e2e

TRACKS, SPOOFING = "x-detection://fleet/tracks", "x-detection://fleet/spoofing"


@pytest.fixture
def announced(home: Path) -> Callable[[], list[str]]:
    """The assets that were announced since it was last asked."""
    seen = [0]

    def new() -> list[str]:
        with sqlite3.connect(home / "airflow.db") as conn:
            rows = conn.execute(
                "select e.id, a.uri from asset_event e join asset a on a.id = e.asset_id where e.id > ?"
                " order by a.uri",
                seen,
            ).fetchall()
        seen[0] = max([number for number, _ in rows], default=seen[0])
        return [uri for _, uri in rows]

    new()
    return new


def test_an_inline_cycle_announces_the_champions_that_succeeded_in_this_run(
    database: Any, cycles: Cycles, announced: Callable[[], list[str]]
) -> None:
    sample_registry.register(database, shadow={"fail": "terminal"})
    sample_registry.put_cycle(database, execution=Execution.INLINE)
    sample_registry.put_version(database, "spoofing@next", ids=["y"])
    cycles({})
    assert announced() == [SPOOFING, TRACKS]
    (replay,) = cycles({"conf": {"mode": "override", "replay": ["spoofing@next"]}})
    assert (replay["state"], announced()) == ("success", []), "a replay makes nothing that is live"
    sample_registry.put_model(database, "spoofing", ("tracks",), is_enabled=False)
    cycles({"at": (AT + timedelta(minutes=5)).isoformat()})
    assert announced() == [TRACKS], "a model that is switched off has not run"


@pytest.mark.long
def test_an_inline_cycle_whose_champion_fails_announces_nothing(
    database: Any, cycles: Cycles, announced: Callable[[], list[str]]
) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, execution=Execution.INLINE)
    sample_registry.put_model(database, "last", ("spoofing",))
    sample_registry.put_version(database, "last@1", Role.PRIMARY, fail="terminal")
    (run,) = cycles({})
    assert (run["state"], announced()) == ("failed", [])
