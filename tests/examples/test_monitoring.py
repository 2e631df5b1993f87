"""The monitoring example: every statement of the dashboard runs, every metric of an alert is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import psycopg
import pytest
import yaml
from psycopg.conninfo import make_conninfo
from tests import sample_registry
from tests.sample_registry import AT, SCHEMA, SETTINGS

from airflow_detection.cycle import inline, planning
from airflow_detection.domain.specs import Mode
from airflow_detection.store.database import Database
from airflow_detection.store.grants import grant, grant_login

EXAMPLE = Path(__file__).parents[2] / "examples" / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((EXAMPLE / "grafana" / "detection.json").read_text())
PACKAGE = Path(__file__).parents[2] / "provider" / "airflow_detection"
MACROS = {
    r"\$__timeFilter\((\w+)\)": r"\1 between '2026-03-01T00:00Z' and '2026-03-02T00:00Z'",
    r"\$__timeTo\(\)": "'2100-01-01T00:00Z'",
    r"\$__timeGroup\((\w+), '1h'\)": r"date_bin('1 hour', \1, 'epoch'::timestamptz)",
    r"\$\{cycle:sqlstring\}": "'fleet', 'other'",
    r"\$\{model:sqlstring\}": "'tracks'",
}
"""What Grafana puts in place of its macros, by its documentation."""
SUFFIXES = {"incr": ("_total",), "gauge": ("",), "timing": ("_bucket", "_sum", "_count")}


def statements() -> dict[str, str]:
    """Every statement of the dashboard by what it is for."""
    found = {
        f"panel {panel['title']}": target["rawSql"]
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    }
    found |= {
        f"variable {v['name']}": v["query"] for v in DASHBOARD["templating"]["list"] if "datasource" in v
    }
    found |= {f"annotation {a['name']}": a["target"]["rawSql"] for a in DASHBOARD["annotations"]["list"]}
    return found


@pytest.fixture(scope="module")
def reader(module_dsn: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A login that may read, in a registry in which a cycle has run."""
    with psycopg.connect(module_dsn, autocommit=True) as conn:
        sample_registry.register(conn, shadow={"fail": "terminal"})
        db = Database(conn, SCHEMA)
        planning.open_cycle(db, "fleet", AT, mode=Mode.AS_OF)
        inline.run_inline(db, SETTINGS, "fleet", AT, mode=Mode.AS_OF)
        grant(db)
        grant_login(db, "grafana", ("detection_reader",), password="pw")  # noqa: S106
        with psycopg.connect(
            make_conninfo(module_dsn, user="grafana", password="pw"),  # noqa: S106
            autocommit=True,
        ) as reading:
            yield reading
        conn.execute("drop owned by grafana")
        conn.execute("drop role grafana")


@pytest.mark.parametrize("name", statements())
def test_each_statement_of_the_dashboard_runs_as_a_login_that_may_read(
    reader: psycopg.Connection[tuple[Any, ...]], name: str
) -> None:
    statement = statements()[name]
    for macro, text in MACROS.items():
        statement = re.sub(macro, text, statement)
    assert "$" not in statement, "a macro that the test does not know"
    cursor = reader.execute(statement.encode())
    assert cursor.description is not None
    columns = [column.name for column in cursor.description]
    assert len(set(columns)) == len(columns)
    rows = cursor.fetchall()
    assert rows or name in ("panel Open events", "annotation Roles"), (
        "a cycle has run, and one version failed"
    )


def test_every_panel_reads_the_data_source_that_is_chosen() -> None:
    chosen = {"type": "grafana-postgresql-datasource", "uid": "${source}"}
    assert {json.dumps(panel["datasource"]) for panel in DASHBOARD["panels"]} == {json.dumps(chosen)}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def sent_metrics() -> set[str]:
    """The names that Prometheus has of what the package sends: Airflow's prefix, and a suffix by kind."""
    sent = re.compile(r"""stats\.(incr|gauge|timing)\(\s*"(detection\.[\w.]+)\"""")
    calls = {match for path in PACKAGE.rglob("*.py") for match in sent.findall(path.read_text())}
    assert len(calls) > 8
    return {f"airflow.{name}".replace(".", "_") + suffix for kind, name in calls for suffix in SUFFIXES[kind]}


def rules() -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load((EXAMPLE / "prometheus" / "detection.rules.yaml").read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


@pytest.mark.parametrize("alert", rules())
def test_each_alert_is_on_metrics_that_are_sent(alert: str) -> None:
    rule = rules()[alert]
    expression = rule["expr"]
    promql_parser.parse(expression)
    used = set(re.findall(r"airflow_\w+", expression))
    assert used
    assert used <= sent_metrics()
    assert {"summary", "description"} == {*rule["annotations"]}
    assert f"`{alert}`" in (EXAMPLE / "README.md").read_text()


def test_the_provisioning_is_yaml_and_holds_no_password() -> None:
    (source,) = yaml.safe_load((EXAMPLE / "grafana" / "datasource.yaml").read_text())["datasources"]
    assert source["secureJsonData"] == {"password": "${DETECTION_READER_PASSWORD}"}
    assert yaml.safe_load((EXAMPLE / "grafana" / "dashboards.yaml").read_text())["providers"]
