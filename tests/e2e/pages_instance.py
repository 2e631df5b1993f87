"""An API server behind a path prefix, with the demo's data, and a cycle whose names and texts are hostile."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from demo import detection
from demo.settings import CHECKOUT
from tests import sample_registry
from tests.e2e.airflow_instance import AirflowInstance, airflow_instance
from tests.ui.page_models import HOSTILE

from airflow_detection.cycle import inline, planning
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Artifact, Mode, Role
from airflow_detection.snapshot.collector import hourly
from airflow_detection.snapshot.sections.catalog import sections
from airflow_detection.store import promotions, registry
from airflow_detection.store.database import Database
from airflow_detection.store.labels import Label, add_labels
from airflow_detection.store.promotions import State
from airflow_detection.store.trainings import Training, put_training

PREFIX = "/behind/a/prefix"
USERS = {"root": "admin", "viewer": "viewer"}
STEP = timedelta(minutes=5)
LAST = datetime(2025, 1, 2, tzinfo=UTC)
SETTINGS = Settings(allowed_prefixes=("tests.ui",))
HOSTILE_MODEL = '<img src=x onerror="hacked=1">'
HUGE = "x" * 20_000


@dataclass(frozen=True, kw_only=True)
class PagesInstance:
    """The server: the address of its UI, tokens that sign users in, and the run of the last cycle."""

    airflow: AirflowInstance
    db: Database
    address: str
    tokens: dict[str, str]
    run_id: str

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call the API as root; return the JSON of its answer."""
        headers = {"Authorization": f"Bearer {self.tokens['root']}"}
        answer = httpx.request(method, f"{self.address}/{path}", json=body, headers=headers, timeout=60)
        assert answer.is_success, answer.text
        return answer.json()


def run_cycle(db: Database, cycle_id: str, at: datetime, *replay: str) -> str:
    """Run a cycle in this process, or replay versions of it; return the id of the run that it is for."""
    run_id = f"manual__{at.isoformat()}"
    mode = Mode.OVERRIDE if replay else Mode.AS_OF
    planning.open_cycle(db, cycle_id, at, mode=mode, dag_run_id=run_id, replay=replay)
    inline.run_inline(db, SETTINGS, cycle_id, at, mode=mode)
    return run_id


def put_demo(airflow: AirflowInstance, folder: Path, cycles: int) -> str:
    """The demo's models and positions, past cycles, labels, a promotion that waits, and reports."""
    dsn = airflow.env["DETECTION_DSN"]
    detection.apply_models(dsn, folder, cycles)
    detection.load(dsn, detection.simulate(folder))
    db = Database(airflow.registry, detection.SCHEMA)
    artifact = Artifact(uri="s3://models@acme-models/spoofing/3.0.skops", sha256=hashlib.sha256().hexdigest())
    params = {"features": ["distance_km", "seconds"], "entity_key": "mmsi"}
    registry.put_version(
        db, model_id="spoofing", version="3.0", params=params, artifact=artifact, entrypoint="sklearn"
    )
    training = Training(
        model_id="spoofing", version="3.0", base_version="1.0", data_start=LAST - timedelta(days=14),
        data_end=LAST, as_of=LAST, seed=1, window_count=336, row_count=812_404, label_count=118,
        input_digest="columns-1:0",
        artifact_sha256=artifact.sha256, metrics={"average_precision": 0.81, "roc_auc": 0.97},
    )  # fmt: skip
    put_training(db, training)
    run_id = ""
    for number in reversed(range(cycles)):
        run_id = run_cycle(db, detection.CYCLE_ID, LAST - number * STEP)
    run_cycle(db, detection.CYCLE_ID, LAST, "spoofing@1.1")
    rows = airflow.registry.execute(
        "select distinct on (entity_id) entity_id, score > 0.5 from detection.detection_model_run_outputs"
        " where model_id = 'spoofing' order by entity_id, score desc"
    ).fetchall()
    labels = [
        Label(
            cycle_id=detection.CYCLE_ID, model_id="spoofing", entity_id=entity_id, is_positive=flagged,
            valid_from=LAST - timedelta(hours=2), valid_to=LAST + STEP, source="coast guard", note="boarded",
        )
        for entity_id, flagged in rows[:40]
    ]  # fmt: skip
    add_labels(db, labels, actor="inspector")
    asked = promotions.ask(
        db, "spoofing@1.1", actor="ana", reason="Finds shorter jumps.", source="detection_promotion manual__1"
    )
    promotions.record(db, asked.promotion_id, State.JUDGED, actor="ana", evidence={"cycles": cycles})
    for at in (LAST - timedelta(hours=1), LAST):
        hourly(db, sections(), at=at)
    return run_id


def put_hostile(airflow: AirflowInstance) -> None:
    """A cycle with a model whose id is markup, and whose outputs, errors, labels and notes are hostile."""
    conn = airflow.registry
    db = Database(conn, sample_registry.SCHEMA)
    fixed = {"entrypoint": "tests.ui.page_models:Fixed"}
    sample_registry.put_cycle(conn, description=HOSTILE, start_date=LAST - timedelta(days=1))
    sample_registry.put_model(conn, HOSTILE_MODEL, **fixed)
    since = LAST - timedelta(days=1)
    scores = {HOSTILE: 0.99, HUGE[:400]: 0.9}
    sample_registry.put_version(conn, f"{HOSTILE_MODEL}@1", Role.PRIMARY, since=since, scores=scores)
    sample_registry.put_version(conn, f"{HOSTILE_MODEL}@2", Role.SHADOW, since=since, fail=HOSTILE + HUGE)
    artifact = Artifact(uri=f"file:///{HOSTILE_MODEL}", sha256=hashlib.sha256().hexdigest())
    sample_registry.put_version(conn, f"{HOSTILE_MODEL}@3", artifact=artifact)
    run_cycle(db, "fleet", LAST)
    label = Label(
        cycle_id="fleet", entity_id=HOSTILE, is_positive=True, valid_from=LAST, valid_to=LAST + STEP,
        source=HOSTILE, note=HOSTILE, model_id=HOSTILE_MODEL,
    )  # fmt: skip
    add_labels(db, [label], actor=HOSTILE)


@contextmanager
def pages_instance(
    folder: Path, server: str, *, cycles: int, is_hostile: bool = True
) -> Iterator[PagesInstance]:
    """The server with its data; only the API server runs."""
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps(dict.fromkeys(USERS, "password")))
    environment = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(map(":".join, USERS.items())),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    with airflow_instance(folder, server, environment=environment, allowed_modules="tests.ui") as airflow:
        address = airflow.api.address + PREFIX
        airflow.env = {**airflow.env, "AIRFLOW__API__BASE_URL": address}
        migration = airflow._program("db-migrate", "db", "migrate")
        airflow.supervisor.start(migration)
        run_id = put_demo(airflow, folder, cycles)
        if is_hostile:
            put_hostile(airflow)
        for name in ("detection_cycles.py", "detection_promotion.py"):
            shutil.copy(CHECKOUT / "dags" / name, airflow.dags)
        airflow.supervisor.finish(migration)
        airflow.start_component("api-server")
        airflow.command("dags", "reserialize")
        airflow.wait(lambda: is_up(address), "the start of the API server")
        tokens = {user: token_of(address, user) for user in USERS}
        db = Database(airflow.registry, detection.SCHEMA)
        found = PagesInstance(airflow=airflow, db=db, address=address, tokens=tokens, run_id=run_id)
        body = {"dag_run_id": run_id, "logical_date": LAST.isoformat()}
        found.call("POST", f"api/v2/dags/{detection.DAG_ID}/dagRuns", body)
        yield found


def is_up(address: str) -> bool:
    """Tell whether the server answers."""
    try:
        return httpx.get(f"{address}/api/v2/version", timeout=5).is_success
    except httpx.HTTPError:
        return False


def token_of(address: str, user: str) -> str:
    """Sign a user in; return the token that a browser has as its cookie."""
    body = {"username": user, "password": "password"}
    answer = httpx.post(f"{address}/auth/token", json=body, timeout=60)
    assert answer.is_success, answer.text
    return str(answer.json()["access_token"])
