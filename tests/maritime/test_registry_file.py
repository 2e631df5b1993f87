"""The maritime registry file: its query on a real database, its models by their entry points."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from tomllib import loads
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.maritime.conftest import COLUMNS, cycle_at

from airflow_detection.domain.inputs import Inputs
from airflow_detection.engine.model import ModelContext
from airflow_detection.maritime.ais.load import load_file
from airflow_detection.maritime.simulation.day import write_day
from airflow_detection.store.queries import named

if TYPE_CHECKING:
    import psycopg

CHECKOUT = Path(__file__).resolve().parents[2]
START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(hours=1)


@pytest.fixture(scope="module")
def registry() -> dict[str, Any]:
    text = (CHECKOUT / "dags/registry/maritime.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def selected(
    database: psycopg.Connection[tuple[Any, ...]], registry: dict[str, Any], opened_at: datetime
) -> Inputs:
    database.execute("set search_path to detection")
    query = named(registry["cycles"]["maritime"]["input_query"])
    at = {"window_start": START, "window_end": END, "opened_at": opened_at}
    cursor = database.execute(query, at)  # type: ignore[arg-type]  # the text comes from a file
    assert cursor.description
    names = [column.name for column in cursor.description]
    return Inputs.of_rows([dict(zip(names, row, strict=True)) for row in cursor], names)


def test_the_query_gives_the_models_what_they_need(
    database: psycopg.Connection[tuple[Any, ...]], registry: dict[str, Any], tmp_path: Path
) -> None:
    truth = write_day(tmp_path / "day.csv", start=START, hours=2, vessels=20)
    load_file(database, tmp_path / "day.csv")
    now = datetime.now(UTC) + timedelta(minutes=1)
    inputs = selected(database, registry, now)
    assert tuple(inputs.columns) == (*COLUMNS, "vessel_name", "vessel_type")
    assert truth.rows * 0.4 < len(inputs) < truth.rows * 0.6
    assert all(START.timestamp() <= second < END.timestamp() for second in inputs["observed_s"])
    for model in models(registry):
        ctx = ModelContext(cycle=cycle_at(END), params=model.params, inputs=inputs)
        outputs = {o.get("mmsi"): o for _, o in model.run(ctx).outputs_per_input}
        if model.model_id in {"spoofing", "identity_collision"}:
            assert len(outputs) == 20
            assert all(outputs[mmsi]["score"] > 0.5 for mmsi in truth.twins)
    earlier = datetime.now(UTC) - timedelta(hours=1)
    assert len(selected(database, registry, earlier)) == 0, "what was loaded later is not seen"


def models(registry: dict[str, Any]) -> list[Any]:
    project = loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = project["entry-points"]["airflow_detection.models"]
    loaded = []
    for model_id, model in registry["models"].items():
        module, _, name = points[model["entrypoint"]].partition(":")
        for version, spec in model["versions"].items():
            loaded.append(getattr(import_module(module), name)(model_id, version, spec.get("params")))
    return loaded


def test_each_model_has_one_champion_and_versions_that_differ(registry: dict[str, Any]) -> None:
    for model_id, model in registry["models"].items():
        versions = list(model["versions"].values())
        assert [v["role"] for v in versions].count("PRIMARY") == 1, model_id
        params = [repr(sorted((v.get("params") or {}).items())) for v in versions]
        assert len(set(params)) == len(params), model_id
    roles = {m: [v["role"] for v in model["versions"].values()] for m, model in registry["models"].items()}
    three = ["PRIMARY", "SHADOW", "CHALLENGER"]
    assert roles["spoofing"] == roles["ais_gap"] == roles["identity_collision"] == three


def test_the_graph_is_a_plan_with_every_model_in_it(registry: dict[str, Any]) -> None:
    upstreams = {m: set(model.get("depends_on", ())) for m, model in registry["models"].items()}
    assert upstreams["track_quality"] == set()
    for model_id in ("ais_gap", "spoofing", "identity_collision", "position_unavailable"):
        assert upstreams[model_id] == {"track_quality"}
    behind = {"gear_identity_collision", "encounter", "loitering"} & set(upstreams)
    assert all(upstreams[model_id] == {"identity_collision"} for model_id in behind)
    no_risk = {"track_quality", "position_unavailable"}  # whoever is deceived is not suspect
    assert upstreams["risk_score"] == set(upstreams) - no_risk - {"risk_score"}
