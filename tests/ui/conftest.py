"""A real API server over a real registry, with users of every kind who have signed in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from demo.settings import CHECKOUT
from tests import sample_registry
from tests.e2e.airflow_instance import AirflowInstance, airflow_instance
from tests.ui.page_models import HOSTILE, STRANGER

from airflow_detection.cycle import inline, planning
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Role
from airflow_detection.snapshot.collector import hourly
from airflow_detection.snapshot.sections.catalog import sections
from airflow_detection.store import promotions
from airflow_detection.store.database import Database
from airflow_detection.store.labels import Label, add_labels
from airflow_detection.store.promotions import State
from airflow_detection.store.trainings import Training, put_training

USERS = {"root": "admin", "editor": "op", "viewer": "viewer", STRANGER: "admin"}
FIRST = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STEP = timedelta(minutes=5)
CYCLES = 4
AT = FIRST + (CYCLES - 1) * STEP
SETTINGS = Settings(allowed_prefixes=("tests.ui",))
CHAMPION = {"a": 0.9, "b": 0.6, "c": 0.1, HOSTILE: 0.8}
SHADOW = {"a": 0.9, "b": 0.2, "c": 0.7, HOSTILE: 0.85}


@dataclass(kw_only=True)
class Pages:
    """The server, the registry behind it, and a client for each user: `anyone` has not signed in."""

    airflow: AirflowInstance
    db: Database
    address: str
    tokens: Mapping[str, str]
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    def client(self, user: str) -> httpx.Client:
        """A client with the user's cookie, as a browser has it."""
        if user not in self.clients:
            cookies = {"_token": self.tokens[user]} if user in self.tokens else {}
            base = f"{self.address}/detection/"
            self.clients[user] = httpx.Client(base_url=base, cookies=cookies, timeout=30)
        return self.clients[user]

    def get(self, path: str, user: str = "root", **params: Any) -> Any:
        """The answer's JSON; it must be 200."""
        answer = self.client(user).get(f"api/{path}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def status(self, path: str, user: str = "root", **params: Any) -> int:
        """The status of an answer."""
        return self.client(user).get(f"api/{path}", params=params).status_code


def register(conn: Any) -> None:
    """Two cycles: `fleet` with a chain of two models and a shadow, and `hidden`."""
    model = {"entrypoint": "tests.ui.page_models:Fixed"}
    sample_registry.put_cycle(conn, description="ships & <b>boats</b>")
    sample_registry.put_cycle(conn, cycle_id="hidden")
    sample_registry.put_model(conn, "tracks", **model)
    sample_registry.put_model(conn, "spoofing", ("tracks",), **model)
    sample_registry.put_model(conn, "secret", cycle_id="hidden", **model)
    sample_registry.put_version(conn, "tracks@1", Role.PRIMARY, scores={"a": 0.2, "b": 0.1})
    sample_registry.put_version(conn, "spoofing@1", Role.PRIMARY, scores=CHAMPION, step_s=60)
    sample_registry.put_version(conn, "spoofing@2", Role.SHADOW, scores=SHADOW, step_s=90)
    sample_registry.put_version(conn, "spoofing@3", Role.SHADOW, scores={}, fail=HOSTILE)
    training = Training(
        model_id="spoofing", version="3", base_version="1", data_start=FIRST - timedelta(days=2),
        data_end=FIRST, as_of=FIRST, seed=1, window_count=3, row_count=90, label_count=7,
        input_digest="columns-1:0",
        artifact_sha256="0" * 64, metrics={"average_precision": 0.75},
    )  # fmt: skip
    put_training(Database(conn, sample_registry.SCHEMA), training)
    sample_registry.put_version(conn, "secret@1", Role.PRIMARY, scores={"a": 0.95})
    sample_registry.put_version(conn, "secret@2", Role.SHADOW, scores={"a": 0.15})


def run_cycles(conn: Any) -> None:
    """Run the past cycles, as their Dags do, and take the hour's report."""
    db = Database(conn, sample_registry.SCHEMA)
    for number in range(CYCLES):
        for cycle_id in ("fleet", "hidden"):
            at = FIRST + number * STEP
            run_id = f"scheduled__{at.isoformat()}"
            planning.open_cycle(db, cycle_id, at, mode=Mode.AS_OF, dag_run_id=run_id)
            inline.run_inline(db, SETTINGS, cycle_id, at, mode=Mode.AS_OF)
    for cycle_id, model_id in (("fleet", "spoofing"), ("hidden", "secret")):
        label = Label(
            cycle_id=cycle_id, entity_id="a", valid_from=FIRST, valid_to=AT + STEP, is_positive=True,
            source="boarded", note=HOSTILE, model_id=model_id,
        )  # fmt: skip
        add_labels(db, [label], actor="inspector")
        promotion = promotions.ask(
            db, f"{model_id}@2", actor="ana", reason=HOSTILE, source="detection_promotion run-1"
        )
        evidence = {"cycles": 4}
        promotions.record(db, promotion.promotion_id, State.JUDGED, actor="ana", evidence=evidence)
    hourly(db, sections(), at=FIRST + timedelta(hours=1))


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory, server: str) -> Iterator[Pages]:
    """The API server, once for all tests of the folder."""
    folder = tmp_path_factory.mktemp("pages")
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps(dict.fromkeys(USERS, "password")))
    environment = {
        "AIRFLOW__CORE__AUTH_MANAGER": "tests.ui.limited_auth.LimitedAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(map(":".join, USERS.items())),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    with running_pages(folder, server, environment, USERS) as found:
        yield found


@contextmanager
def running_pages(
    folder: Path,
    server: str,
    environment: Mapping[str, str],
    users: Iterable[str],
    add_users: Callable[[AirflowInstance], object] = lambda _: None,
) -> Iterator[Pages]:
    """An API server with past cycles in its registry; `add_users` runs once Airflow knows their Dags."""
    with airflow_instance(folder, server, environment=environment, allowed_modules="tests.ui") as airflow:
        register(airflow.registry)
        run_cycles(airflow.registry)
        shutil.copy(CHECKOUT / "dags" / "detection_cycles.py", airflow.dags)
        shutil.copy(CHECKOUT / "dags" / "detection_promotion.py", airflow.dags)
        migration = airflow._program("db-migrate", "db", "migrate")
        airflow.supervisor.start(migration)
        airflow.supervisor.finish(migration)
        airflow.start_component("api-server")
        airflow.command("dags", "reserialize")
        add_users(airflow)
        airflow.wait(lambda: is_up(airflow.api.address), "the start of the API server")
        found = Pages(
            airflow=airflow,
            db=Database(airflow.registry, sample_registry.SCHEMA),
            address=airflow.api.address,
            tokens={user: token_of(airflow.api.address, user) for user in users},
        )
        yield found
        for client in found.clients.values():
            client.close()


def is_up(address: str) -> bool:
    """Tell whether the server answers."""
    try:
        return httpx.get(f"{address}/api/v2/monitor/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def token_of(address: str, user: str) -> str:
    """Sign a user in."""
    body = {"username": user, "password": "password"}
    answer = httpx.post(f"{address}/auth/token", json=body, timeout=30)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["access_token"])
