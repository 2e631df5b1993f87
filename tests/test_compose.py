"""Checks of docker-compose.yaml that need no Docker engine."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_detection.provider_info import get_provider_info

ROOT = Path(__file__).parents[1]
SERVERS = {"api-server", "scheduler", "dag-processor", "triggerer", "worker"}
ONE_SHOT = {"migrate", "cli"}
# The Celery provider comes with Airflow's image, not with ours; these are options of its [celery] section.
CELERY = {"broker_url", "result_backend"}
# Read by the images' own entry points, and by Python.
IMAGES = {"POSTGRES_PASSWORD", "DUMB_INIT_SETSID", "PYTHONPATH"}
DATABASES = (ROOT / "compose" / "create-databases.sh").read_text()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    return content


def test_the_stack_has_every_service(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == SERVERS | ONE_SHOT | {"postgres", "redis"}
    assert compose["services"]["worker"]["command"] == "celery worker"
    assert compose["services"]["worker"]["environment"]["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"


def test_every_image_is_pinned_to_a_whole_version(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.fullmatch(r"[a-z-]+:\d+\.\d+(\.\d+)?(-\w+)?", service["image"]), name


def test_the_airflow_image_is_the_airflow_that_the_tests_run(compose: dict[str, Any]) -> None:
    dockerfile = compose["services"]["worker"]["build"]["dockerfile_inline"]
    installed = version("apache-airflow")
    assert f"FROM apache/airflow:{installed}-python3.12" in dockerfile
    assert f'"apache-airflow=={installed}"' in dockerfile
    assert "pip install --no-cache-dir --constraint /opt/airflow/package/constraints.txt" in dockerfile
    assert compose["services"]["worker"]["image"].endswith(f":{version('airflow-provider-detection')}")


def test_what_is_copied_into_the_image_is_there(compose: dict[str, Any]) -> None:
    dockerfile = compose["services"]["worker"]["build"]["dockerfile_inline"]
    for line in re.findall(r"^COPY --chown=\S+ (.+) \S+$", dockerfile, flags=re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists(), source
    assert (ROOT / "dags" / "registry" / "maritime.yaml").exists()


def test_every_service_that_stays_up_has_a_health_check(compose: dict[str, Any]) -> None:
    for name in set(compose["services"]) - ONE_SHOT:
        check = compose["services"][name]["healthcheck"]
        assert check["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert len(check["test"]) > 1, name
        assert {"interval", "timeout", "retries"} <= check.keys(), name


def test_what_a_service_waits_for_exists_and_can_come_true(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for other, dependency in service.get("depends_on", {}).items():
            condition = dependency["condition"]
            if condition == "service_healthy":
                assert "healthcheck" in services[other], (name, other)
            else:
                assert (condition, other) == ("service_completed_successfully", "migrate"), (name, other)
                assert services[other]["restart"] == "no"
    for name in SERVERS:
        assert services[name]["depends_on"].keys() >= {"migrate", "postgres", "redis"}, name
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def environment(compose: dict[str, Any]) -> set[str]:
    return {name for service in compose["services"].values() for name in service.get("environment", {})}


def test_every_airflow_option_exists(compose: dict[str, Any]) -> None:
    import airflow

    described = Path(airflow.__path__[0], "config_templates", "config.yml").read_text()
    known = {section: set(body["options"]) for section, body in yaml.safe_load(described).items()}
    known |= {section: set(body["options"]) for section, body in get_provider_info()["config"].items()}
    known["celery"] = CELERY
    options = {name for name in environment(compose) if name.startswith("AIRFLOW__")}
    assert options
    for name in options:
        _, section, key = name.lower().split("__")
        assert key in known.get(section, set()), name


def test_every_other_name_is_read_by_somebody(compose: dict[str, Any]) -> None:
    source = "".join(path.read_text() for path in (ROOT / "provider").rglob("*.py"))
    others = {name for name in environment(compose) if not name.startswith("AIRFLOW__")} - IMAGES
    connections = {name for name in others if name.startswith("AIRFLOW_CONN_")}
    assert connections == {"AIRFLOW_CONN_DETECTION_DEFAULT", "AIRFLOW_CONN_DETECTION_READER"}
    assert '"detection_default"' in source
    passwords = {name for name in others if name.endswith("_PASSWORD")}
    assert all(f'"${name}"' in DATABASES for name in passwords)
    flags = others - connections - passwords
    assert flags
    for name in flags:
        assert re.search(rf'"{name}"', source), name


def test_secrets_come_from_outside_and_nothing_is_open_to_the_network(
    compose: dict[str, Any],
) -> None:
    for name, service in compose["services"].items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"SECRET|PASSWORD$|FERNET|_CONN(?!_ID$)|RESULT_BACKEND", key):
                assert "${" in value, (name, key)
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_named_volumes_are_declared_and_mounted_paths_are_there(compose: dict[str, Any]) -> None:
    mounted = set()
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source, target = re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", volume).split(":")[:2]
            if source.startswith("./"):
                assert (ROOT / source).exists(), volume
                assert volume.endswith(":ro"), volume
                mounted.add(target)
            else:
                assert source in compose["volumes"], volume
    own = "/docker-entrypoint-initdb.d/create-databases.sh"
    assert mounted == {"/opt/airflow/models", "/opt/airflow/dags/own", own}
    assert (ROOT / "compose" / "create-databases.sh").stat().st_mode & 0o111
    assert compose["services"]["worker"]["environment"]["PYTHONPATH"] == "/opt/airflow/models"


def logins(service: dict[str, Any]) -> dict[str, str]:
    """Return the login and database of each address of PostgreSQL that a service has."""
    uris = {
        key: re.search(r"//(\w+):.*@postgres/(\w+)$", str(v)) for key, v in service["environment"].items()
    }
    return {key: f"{found[1]}@{found[2]}" for key, found in uris.items() if found}


def test_each_service_connects_with_the_login_of_its_own_need(compose: dict[str, Any]) -> None:
    worker = {
        "AIRFLOW_CONN_DETECTION_DEFAULT": "detection@detection",
        "AIRFLOW_CONN_DETECTION_READER": "detection_models@detection",
        "AIRFLOW__CELERY__RESULT_BACKEND": "celery@celery",
    }
    metadata = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC")
    server = worker | dict.fromkeys(metadata, "airflow@airflow")
    owner = {"AIRFLOW_CONN_DETECTION_DEFAULT": "detection_owner@detection"}
    for name in SERVERS | ONE_SHOT:
        expected = {"worker": worker, "migrate": server | owner}.get(name, server)
        assert logins(compose["services"][name]) == expected, name
    for login, powers in re.findall(r"create role (\w+) login (.*)password", DATABASES):
        assert powers.strip() == ("createrole" if login == "detection_owner" else ""), login
    assert (
        compose["services"]["worker"]["environment"]["AIRFLOW__DETECTION__READER_CONN_ID"]
        == "detection_reader"
    )


def test_a_worker_has_no_key_of_tokens_or_connections(compose: dict[str, Any]) -> None:
    keys = {"AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__CORE__FERNET_KEY"}
    assert not keys & compose["services"]["worker"]["environment"].keys()
    assert keys <= compose["services"]["scheduler"]["environment"].keys()


def test_a_health_check_names_its_host_without_a_variable_of_the_shell(compose: dict[str, Any]) -> None:
    for name in SERVERS:
        assert "HOSTNAME" not in str(compose["services"][name]["healthcheck"]), "sh does not set it"
