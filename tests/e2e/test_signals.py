"""What others see of a cycle in a real Airflow: sensor, partitions, spans, lineage, the connection's form."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from demo.settings import CHECKOUT
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from psycopg.conninfo import conninfo_to_dict
from tests import sample_registry
from tests.e2e.airflow_instance import AirflowInstance, airflow_instance
from tests.sample_registry import AT

from airflow_detection.domain.names import asset_uri_of

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

pytestmark = [pytest.mark.e2e, pytest.mark.long]

EVENTS = "lineage.jsonl"
QUERY = "select id from fleet.positions where at >= :window_start and at < :window_end"
DAGS = ("detection_fleet", "waits", "per_cycle")
FOLLOWERS = '''"""Dags that follow a champion: the words dag and airflow make Airflow look into this file."""

from datetime import timedelta

from airflow.sdk import DAG, Asset, BaseOperator, PartitionedAssetTimetable

from airflow_detection.sensors.output import DetectionOutputSensor


class Noop(BaseOperator):
    def execute(self, context):
        return None


# Airflow may take a task that is deferred and back at once for one that ended silently, and fail the try.
with DAG("waits", schedule=None, default_args={{"retries": 3, "retry_delay": timedelta(seconds=1)}}):
    DetectionOutputSensor(
        task_id="wait", model_id="tracks", cycle_started_at={at!r}, deferrable=True, poke_interval=1
    ) >> Noop(task_id="noop")

with DAG("per_cycle", schedule=PartitionedAssetTimetable(assets=Asset({uri!r})), catchup=False):
    Noop(task_id="noop")
'''


class Collector:
    """A collector of OpenTelemetry's protocol over HTTP that keeps the spans it is sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                request = ExportTraceServiceRequest.FromString(body)
                collector.spans += [
                    s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans
                ]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def airflow_and_collector(
    tmp_path_factory: pytest.TempPathFactory, server: str
) -> Iterator[tuple[AirflowInstance, Collector]]:
    with collecting() as (collector, endpoint):
        environment = {
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        folder = tmp_path_factory.mktemp("signals")
        transport = {"type": "file", "log_file_path": str(folder / EVENTS), "append": True}
        environment["AIRFLOW__OPENLINEAGE__TRANSPORT"] = json.dumps(transport)
        options = {"allowed_modules": "tests.sample_registry", "asset_partition_keys": "True"}
        with airflow_instance(folder, server, environment=environment, **options) as instance:
            instance.registry.execute(
                "create schema fleet; create table fleet.positions (id text, at timestamptz)"
            )
            sample_registry.put_cycle(instance.registry, schedule="5 12 1 3 *")
            sample_registry.register(instance.registry, shadow={"fail": "terminal"})
            sample_registry.put_cycle(instance.registry, schedule="5 12 1 3 *", input_query=QUERY)
            shutil.copy(CHECKOUT / "dags" / "detection_cycles.py", instance.dags)
            followers = FOLLOWERS.format(at=AT.isoformat(), uri=asset_uri_of("fleet", "tracks"))
            (instance.dags / "followers.py").write_text(followers)
            instance.start()
            instance.start_component("triggerer")
            instance.wait(lambda: instance.has_api() and instance.has_dags(*DAGS), "the start of Airflow")
            instance.api.unpause("waits")
            instance.api.unpause("per_cycle")
            run_id = instance.trigger("waits")
            query = "select state from task_instance where run_id = %s and task_id = 'wait'"
            instance.wait(lambda: instance.rows(query, run_id) == [("deferred",)], "a sensor that waits")
            instance.api.unpause("detection_fleet")  # its last tick was AT
            instance.wait_for_runs("detection_fleet", 1)
            yield instance, collector


@pytest.fixture
def airflow(airflow_and_collector: tuple[AirflowInstance, Collector]) -> AirflowInstance:
    return airflow_and_collector[0]


@pytest.fixture
def collector(airflow_and_collector: tuple[AirflowInstance, Collector]) -> Collector:
    return airflow_and_collector[1]


def test_a_dag_that_waits_goes_on_when_the_champion_has_its_outputs(airflow: AirflowInstance) -> None:
    airflow.wait(lambda: airflow.run_states("waits") == ["success"], "the run that waited")
    (value,) = airflow.rows("select value from xcom where dag_id = 'waits' and key = 'return_value'")[0]
    assert (value["version"], value["outcome"], value["output_count"]) == ("1", "SUCCEEDED", 2)


def test_a_dag_runs_once_for_each_cycle_that_is_its_partition(airflow: AirflowInstance) -> None:
    airflow.wait(lambda: airflow.run_states("per_cycle") == ["success"], "the run of the partition")
    assert airflow.rows("select partition_key from dag_run where dag_id = 'per_cycle'") == [(AT.isoformat(),)]


def test_each_version_has_its_span_in_the_trace_of_the_run(
    airflow: AirflowInstance, collector: Collector
) -> None:
    airflow.wait(lambda: len(collector.named("detection.version")) >= 3, "the spans")
    by_id = {span.span_id: span for span in collector.spans}
    found = {}
    for span in collector.named("detection.version"):
        facts = {a.key: a.value.string_value for a in span.attributes}
        parent = by_id.get(span.parent_span_id)
        found[facts["detection.model.id"], facts["detection.model.version"]] = (
            facts["detection.outcome"],
            parent.name if parent else None,
        )
        assert facts["detection.cycle.id"] == "fleet"
    assert found == {
        ("tracks", "1"): ("SUCCEEDED", "worker.tracks"),
        ("tracks", "2"): ("FAILED", "worker.tracks__2"),
        ("spoofing", "1"): ("SUCCEEDED", "worker.spoofing"),
    }


def events(airflow: AirflowInstance, task_id: str, kind: str) -> list[dict[str, Any]]:
    """Return the events of OpenLineage about a task of the cycle."""
    file = airflow.folder / EVENTS
    told = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [e for e in told if e["job"]["name"] == f"detection_fleet.{task_id}" and e["eventType"] == kind]


def test_lineage_has_the_tables_that_a_version_reads_and_writes_and_what_it_is(
    airflow: AirflowInstance,
) -> None:
    ended = {"tracks": "COMPLETE", "tracks__2": "FAIL", "spoofing": "COMPLETE"}
    airflow.wait(lambda: all(events(airflow, *task) for task in ended.items()), "the events of lineage")
    server, database = f"postgres://127.0.0.1:{airflow.registry_proxy.port}", airflow.registry.info.dbname
    outputs = (server, f"{database}.detection.detection_model_run_outputs")
    (event,) = events(airflow, "spoofing", "COMPLETE")
    assert [(d["namespace"], d["name"]) for d in event["inputs"]] == [
        (server, f"{database}.fleet.positions"),
        ("x-detection://fleet", "tracks"),
    ]
    assert [(d["namespace"], d["name"]) for d in event["outputs"]] == [
        outputs,
        ("x-detection://fleet", "spoofing"),
    ]
    assert event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 1
    facet = event["run"]["facets"]["detection_versions"]
    assert (facet["cycle"], facet["cycleStartedAt"]) == ("fleet", AT.isoformat())
    (version,) = facet["versions"]
    assert (version["model"], version["version"], version["role"]) == ("spoofing", "1", "PRIMARY")
    assert (version["outcome"], version["outputCount"]) == ("SUCCEEDED", 1)
    assert version["paramsSha256"] == hashlib.sha256(b'{"ids":["x"]}').hexdigest()
    (failed,) = events(airflow, "tracks__2", "FAIL")
    assert failed["run"]["facets"]["detection_versions"]["versions"][0]["outcome"] == "FAILED"
    assert failed["run"]["facets"]["errorMessage"]["message"]
    (started,) = events(airflow, "spoofing", "START")
    assert [(d["namespace"], d["name"]) for d in started["outputs"]] == [outputs]


def test_the_form_of_the_connection_has_its_fields_and_its_test_button(airflow: AirflowInstance) -> None:
    hooks = {meta["connection_type"]: meta for meta in airflow.api._call("GET", "/ui/connections/hook_meta")}
    form = hooks["detection"]
    assert form["hook_name"] == "Detection registry"
    assert form["standard_fields"]["url_schema"]["title"] == "Database"
    assert [*form["extra_fields"]] == ["sslmode", "sslrootcert", "application_name", "connect_timeout"]
    target = conninfo_to_dict(airflow.registry.info.dsn)
    body = {
        "connection_id": "ours",
        "conn_type": "detection",
        "host": target["host"],
        "login": target.get("user"),
        "password": airflow.registry.info.password or None,
        "port": int(target["port"]) if target.get("port") else None,
        "schema": target["dbname"],
    }
    answer = airflow.api._call("POST", "/api/v2/connections/test", body)
    assert answer["status"], answer
    assert "schema 'detection' is at this version" in answer["message"]
    refused = airflow.api._call("POST", "/api/v2/connections/test", body | {"schema": "nowhere"})
    assert not refused["status"]
    assert 'database "nowhere" does not exist' in refused["message"]
