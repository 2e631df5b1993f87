"""The whole of `docker-compose.yaml`, run with stand-ins for its images: see `containers`.

It proves services, order, networks, names, ports, mounts, commands, environment, health checks and the build
of the image; not the images of the vendors, nor another engine of containers than podman.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compose.containers import (
    IMAGES,
    ROOT,
    Podman,
    airflow_context,
    build_tools,
    make_base,
    make_image,
    missing,
)
from tests.compose.stack import Stack

pytestmark = [pytest.mark.compose, pytest.mark.long]

MODELS = """
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult


class Counted(BaseDetectionModel):
    def run(self, ctx: ModelContext) -> ModelResult:
        return ModelResult(outputs_per_input=[({"n": n}, {"score": 0.5}) for n in range(3)])
"""
REGISTRATION = """
cycles:
  own: {schedule: "*/5 * * * *", lookback: 60m, start_date: 2026-01-01, max_active_runs: 4}
models:
  counted:
    cycle: own
    entrypoint: own_models:Counted
    score_key: score
    versions:
      "1": {role: PRIMARY, since: 2026-01-01}
      "2": {role: SHADOW, since: 2026-01-01}
"""
OUTPUTS = (
    "select count(*), md5(string_agg(o::text, ',' order by o::text))"
    " from detection.detection_model_run_outputs o where cycle_started_at < '2026-02-01'"
)
"""Those of backfills: the Dag runs live cycles, too."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, built and up, with a model of one's own; afterwards nothing of it is left."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("compose")
    podman = Podman(folder / "podman", Path(f"/run/detection-compose-{os.getpid()}"))
    for name, text in (("models/own_models.py", MODELS), ("dags/own.yaml", REGISTRATION)):
        (folder / name).parent.mkdir()
        (folder / name).write_text(text)
    variables = {
        "MODELS_DIR": str(folder / "models"),
        "DAGS_DIR": str(folder / "dags"),
        "ALLOWED_MODULES": "own_models",
        "PORT": str(free_port()),
    }
    stack = Stack(podman, variables, tuple(build_tools(podman.folder)))
    try:
        make_base(podman)
        for service in ("postgres", "redis"):
            make_image(podman, f"docker.io/library/{stack.services[service]['image']}", IMAGES / service)
        begins_with = re.search(r"FROM (\S+)", stack.services["worker"]["build"]["dockerfile_inline"])
        assert begins_with
        make_image(podman, f"docker.io/{begins_with[1]}", airflow_context(podman.folder / "airflow"))
        stack.compose("build", "migrate", timeout=1200)
        stack.up()
        yield stack
    finally:
        podman.remove()


def backfill(stack: Stack, day: str, last: str) -> set[str]:
    """Run the cycles of the model from midnight to a time of day; returns the hosts that ran its tasks.

    The scheduler looks twice a minute whether a backfill is complete; until then a Dag can have no other one.
    """
    command = (
        f"airflow backfill create --dag-id detection_own --from-date {day}T00:00:00Z --to-date {day}T{last}Z"
    )
    stack.inside("scheduler", "bash", "-c", f"airflow dags unpause detection_own && {command}")
    runs = f"from dag_run where dag_id = 'detection_own' and run_id like 'backfill__{day}%'"
    deadline = time.monotonic() + 600
    while {state for (state,) in stack.rows("airflow", f"select state {runs}")} - {"success"}:
        states = stack.rows("airflow", f"select run_id, state {runs}")
        assert time.monotonic() < deadline, states
        assert "failed" not in {state for _, state in states}, states
        time.sleep(3)
    while stack.rows("airflow", "select id from backfill where completed_at is null"):
        assert time.monotonic() < deadline, "the backfill is not complete"
        time.sleep(3)
    hosts = (
        f"select distinct hostname from task_instance where run_id like 'backfill__{day}%' and hostname <> ''"
    )
    return {host for (host,) in stack.rows("airflow", hosts)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def hostname(stack: Stack, service: str, number: int = 1) -> str:
    return stack.inside(service, "hostname", number=number).strip()


def test_the_image_has_the_versions_of_the_constraints(stack: Stack) -> None:
    versions = "{d.name: d.version for d in metadata.distributions()}"
    script = f"import json\nfrom importlib import metadata\nprint(json.dumps({versions}))"
    installed = json.loads(stack.inside("worker", "python", "-c", script).splitlines()[-1])
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    normal = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in installed.items()}
    assert len(normal.keys() & pins.keys()) > 100
    of_base = {"pip", "setuptools"}
    assert {n: v for n, v in normal.items() if n not in of_base and pins.get(n, v) != v} == {}
    assert "airflow-provider-detection" in normal


def test_the_check_finds_nothing_wrong_and_the_port_is_open_on_this_machine_alone(stack: Stack) -> None:
    assert "superuser" not in (said := stack.inside("scheduler", "airflow", "detection", "check")), said
    address = f"127.0.0.1:{stack.variables['PORT']}"
    assert stack.podman("port", stack.container("api-server")).split(" -> ")[1].strip() == address
    with urllib.request.urlopen(f"http://{address}/api/v2/monitor/health", timeout=30) as answer:
        health = json.load(answer)
    states = {health[part]["status"] for part in ("metadatabase", "scheduler", "triggerer", "dag_processor")}
    assert states == {"healthy"}


def test_a_worker_knows_neither_airflows_database_nor_its_keys(stack: Stack) -> None:
    known = stack.inside("worker", "env")
    assert "AIRFLOW__CELERY__BROKER_URL" in known
    for name in ("SQL_ALCHEMY_CONN", "JWT_SECRET", "FERNET_KEY", "OWNER", "@postgres/airflow"):
        assert name not in known


def test_each_login_may_do_what_it_needs_and_no_more(stack: Stack) -> None:
    query = "select rolname, rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname !~ '^pg_'"
    powers = {name: of for name, *of in stack.rows("detection", query)}
    assert {name for name, of in powers.items() if of != ["f", "f", "f"]} == {"postgres", "detection_owner"}
    assert powers["detection_owner"] == ["f", "t", "f"]
    query = (
        "select has_table_privilege('detection_models', 'detection.detection_models', 'insert'),"
        " has_database_privilege('detection', 'airflow', 'connect'),"
        " has_database_privilege('celery', 'detection', 'connect')"
    )
    assert stack.rows("detection", query) == [["f", "f", "f"]]


def test_a_health_check_is_of_its_own_host(stack: Stack) -> None:
    for service in ("dag-processor", "triggerer", "worker"):
        assert stack.check(service)[0] == 0
        shell, check = stack.services[service]["healthcheck"]["test"]
        assert shell == "CMD-SHELL"
        command = check.replace("$$", "$")
        with pytest.raises(AssertionError):
            stack.inside("scheduler", "sh", "-c", command)


def test_a_backfill_runs_models_of_ones_own_on_the_celery_worker(stack: Stack) -> None:
    assert backfill(stack, "2026-01-05", "00:10:00") == {hostname(stack, "worker")}
    ((count, _),) = stack.rows("detection", OUTPUTS)
    assert int(count) == 3 * 2 * 3, "cycles, versions, outputs"


def test_two_workers_share_the_work(stack: Stack) -> None:
    stack.compose("up", "--detach", "--no-build", "--no-deps", "--scale", "worker=2", "worker")
    for number in (1, 2):
        stack.wait_healthy("worker", number)
    hosts = {hostname(stack, "worker", number) for number in (1, 2)}
    assert len(hosts) == 2
    assert backfill(stack, "2026-01-06", "00:55:00") == hosts


def test_the_stack_goes_down_and_up_again_without_loss(stack: Stack) -> None:
    backfills = "select run_id, state from dag_run where run_id like 'backfill%' order by 1"
    roles = "select * from detection.detection_model_roles order by 1"

    def state() -> tuple[list[list[str]], ...]:
        return (
            stack.rows("airflow", backfills),
            stack.rows("detection", OUTPUTS),
            stack.rows("detection", roles),
        )

    before = state()
    stack.compose("down")
    stack.podman("rm", "--force", "--ignore", stack.container("worker", 2))  # podman-compose forgets it
    assert stack.podman("ps", "--all", "--quiet") == ""
    stack.up()
    assert state() == before
    assert backfill(stack, "2026-01-20", "00:00:00") == {hostname(stack, "worker")}
