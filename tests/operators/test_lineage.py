"""Lineage of what a task ran, as OpenLineage's provider is given it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import attrs
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests import sample_registry
from tests.operators.airflow_runs import airflow_uri
from tests.sample_registry import AT, SETTINGS

from airflow_detection.cycle import inline, planning
from airflow_detection.domain.specs import Artifact, Mode, Role
from airflow_detection.errors import TerminalModelError
from airflow_detection.operators.cycle import CloseCycleOperator, InlineCycleOperator
from airflow_detection.operators.lineage import TaskRun
from airflow_detection.operators.model import DetectionModelOperator
from airflow_detection.store.connection import Connection, address_of, connect
from airflow_detection.store.database import Database

SHA256 = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def ran(database: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch) -> TaskRun:
    """A cycle that has run: a champion with a shadow that failed, and a model that reads the champion's."""
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", airflow_uri(dsn))
    monkeypatch.setenv("AIRFLOW_CONN_READER", airflow_uri(make_conninfo(dsn, user="lineage_reader")))
    database.execute("create schema fleet; create table fleet.positions (id text, at timestamptz)")
    query = "select id from fleet.positions where at >= :window_start and at < :window_end"
    sample_registry.register(database, shadow={"fail": "terminal"})
    sample_registry.put_version(
        database, "tracks@3", Role.CHALLENGER, artifact=Artifact(uri="s3://models/a", sha256=SHA256)
    )
    sample_registry.put_cycle(database, input_query=query)
    db = Database(database)
    opened = planning.open_cycle(db, "fleet", AT, mode=Mode.AS_OF)
    return TaskRun("fleet", AT, Mode.AS_OF, inline.run_steps(db, SETTINGS, opened, opened.steps))


def namespace(dsn: str) -> str:
    values = conninfo_to_dict(dsn)
    assert str(values["host"]).startswith("/")
    return f"postgres://localhost:{values.get('port', 5432)}"


def datasets(found: Any) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    return [(d.namespace, d.name) for d in found.inputs], [(d.namespace, d.name) for d in found.outputs]


def test_a_task_tells_tables_champions_and_versions(ran: TaskRun, dsn: str) -> None:
    name, server = conninfo_to_dict(dsn)["dbname"], namespace(dsn)
    outputs = (server, f"{name}.detection.detection_model_run_outputs")
    positions = (server, f"{name}.fleet.positions")
    operator = InlineCycleOperator(task_id="cycle", cycle_id="fleet")
    assert datasets(operator.get_openlineage_facets_on_start()) == ([], [outputs])
    assert datasets(operator.get_openlineage_facets_on_complete(None)) == ([], [])  # it has run nothing
    operator.ran = ran
    found = operator.get_openlineage_facets_on_complete(None)
    champions = [("x-detection://fleet", "tracks"), ("x-detection://fleet", "spoofing")]
    assert datasets(found) == ([positions], [outputs, *champions])
    assert found.outputs[0].outputFacets["outputStatistics"].rowCount == 3
    facet = found.run_facets["detection_versions"]
    assert (facet.cycle, facet.cycleStartedAt) == ("fleet", "2026-03-01T12:05:00+00:00")
    told = {(v.model, v.version): (v.role, v.outcome, v.outputCount) for v in facet.versions}
    assert told == {
        ("tracks", "1"): ("PRIMARY", "SUCCEEDED", 2),
        ("tracks", "2"): ("SHADOW", "FAILED", 0),
        ("tracks", "3"): ("CHALLENGER", "FAILED", 0),
        ("spoofing", "1"): ("PRIMARY", "SUCCEEDED", 1),
    }
    (challenger,) = [v for v in facet.versions if v.version == "3"]
    assert (challenger.artifactUri, challenger.artifactSha256) == ("s3://models/a", SHA256)
    assert attrs.asdict(facet.versions[0]) | {"inputDigest": None} == {
        "model": "tracks",
        "version": "1",
        "role": "PRIMARY",
        "isReplay": False,
        "outcome": "SUCCEEDED",
        "paramsSha256": hashlib.sha256(b'{"ids":["a","b"]}').hexdigest(),
        "artifactUri": None,
        "artifactSha256": None,
        "inputCount": 0,
        "inputDigest": None,
        "outputCount": 2,
    }


def test_a_task_of_one_model_reads_the_champion_that_it_depends_on(ran: TaskRun, dsn: str) -> None:
    operator = DetectionModelOperator(task_id="spoofing", model_id="spoofing")
    reports = [report for report in ran.reports if report.version.model_id == "spoofing"]
    operator.ran = replace(ran, cycle_id=None, reports=reports)
    inputs, outputs = datasets(operator.get_openlineage_facets_on_complete(None))
    assert inputs[1:] == [("x-detection://fleet", "tracks")]
    assert outputs[1:] == [("x-detection://fleet", "spoofing")]


def test_tables_are_found_as_the_login_that_models_read_as(
    ran: TaskRun, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("drop role if exists lineage_reader; create role lineage_reader login")
    monkeypatch.setenv("AIRFLOW__DETECTION__READER_CONN_ID", "reader")
    operator = CloseCycleOperator(task_id="close", cycle_id="fleet")
    operator.ran = ran
    with pytest.raises(TerminalModelError, match="permission denied for schema fleet"):
        operator.get_openlineage_facets_on_complete(None)
    database.execute(
        "grant usage on schema fleet to lineage_reader; grant select on fleet.positions to lineage_reader"
    )
    assert operator.get_openlineage_facets_on_complete(None).inputs[0].name.endswith(".fleet.positions")
    database.execute("drop owned by lineage_reader; drop role lineage_reader")


def test_a_server_is_named_by_the_first_of_its_hosts_whichever_answers(dsn: str) -> None:
    values = conninfo_to_dict(dsn)
    hosts = {"host": f"127.0.0.1,{values['host']}", "port": f"1,{values.get('port') or 5432}"}
    with connect(make_conninfo(dsn, **hosts)) as conn:
        assert address_of(conn) == ("127.0.0.1", 1)
