"""Promotions in a real Airflow: asked for, approved by another user, watched, kept, taken back, forged."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from demo.api import Airflow, ApiError
from demo.settings import CHECKOUT
from tests import sample_registry
from tests.e2e.airflow_instance import AirflowInstance, airflow_instance
from tests.e2e.promotion_models import ENTITIES, QUERY, is_positive

from airflow_detection.cycle import inline, planning
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Execution, Mode, Role
from airflow_detection.store import promotions
from airflow_detection.store.database import Database
from airflow_detection.store.labels import Label, add_labels
from airflow_detection.store.promotions import State

pytestmark = pytest.mark.e2e

DAG = "detection_promotion"
CYCLE = "detection_judged"
FIRST = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STEP = timedelta(minutes=5)
CYCLES = 6
USERS = {"ana": "op", "ben": "op", "vic": "viewer"}
WATCH_S = 20
SILENT_FROM = "2026-06-01T00:00:00+00:00"
POLICY = {"min_cycles": CYCLES, "max_duration_factor": 1000}
SETTINGS = Settings(allowed_prefixes=("tests.e2e",))
DAG_FILE = '''"""Promotions, looked at every three seconds: dag, airflow."""

from datetime import timedelta

from airflow_detection.dags.promotion import promotion_dag

dag = promotion_dag()
dag.get_task("watch").poll = timedelta(seconds=3)
'''


@dataclass(frozen=True)
class Setting:
    """A running Airflow with users who sign in, and the registry."""

    airflow: AirflowInstance
    db: Database
    users: dict[str, Airflow]

    def ask(self, user: str, version: str, **conf: Any) -> str:
        """Start a run as a user; return its id."""
        run_id = f"ask-{uuid.uuid4().hex[:8]}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": {"version": version, **conf}}
        self.users[user]._call("POST", f"/api/v2/dags/{DAG}/dagRuns", body)
        return run_id

    def promotion(self, run_id: str) -> promotions.Promotion | None:
        """The newest promotion that a run asked for."""
        return next(iter(promotions.promotions(self.db, source=f"{DAG} {run_id}")), None)

    def state(self, run_id: str) -> State | None:
        promotion = self.promotion(run_id)
        return promotion and promotion.state

    def wait_for(self, run_id: str, *states: State) -> promotions.Promotion:
        self.airflow.wait(lambda: self.state(run_id) in states, f"{run_id}: {states}")
        promotion = self.promotion(run_id)
        assert promotion is not None
        return promotion

    def waits(self, run_id: str) -> bool:
        """Tell whether the task waits for an answer, and the executor has told the scheduler so.

        Before that, which takes up to five seconds, an answer makes Airflow fail the task.
        """
        query = "select state from task_instance where dag_id = %s and run_id = %s and task_id = 'approve'"
        log = (self.airflow.folder / "logs" / "scheduler.log").read_text()
        is_told = re.search(rf"TaskInstance Finished: .*task_id=approve, run_id={run_id},", log)
        return bool(is_told) and self.airflow.rows(query, DAG, run_id) == [("awaiting_input",)]

    def log(self, run_id: str) -> str:
        """The log of the task."""
        folder = self.airflow.folder / "logs" / "tasks" / f"dag_id={DAG}" / f"run_id={run_id}"
        return "\n".join(path.read_text() for path in folder.rglob("task_id=approve/*.log"))

    def shown(self, run_id: str) -> str:
        """The body that Airflow shows of the request."""
        query = (
            "select d.body from hitl_detail d join task_instance t on t.id = d.ti_id"
            " where t.dag_id = %s and t.run_id = %s"
        )
        return str(self.airflow.rows(query, DAG, run_id)[0][0])

    def answer(self, user: str, run_id: str, option: str) -> None:
        path = f"/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
        self.users[user]._once(
            "PATCH", path, {"chosen_options": [option], "params_input": {}}, token=self.users[user]._token
        )

    def champion(self, model_id: str) -> str:
        query = (
            "select version from detection.detection_model_roles r"
            " join detection.detection_model_versions v using (version_id)"
            " where r.model_id = %s and role = 'PRIMARY' and upper_inf(valid) and superseded_at is null"
        )
        return str(self.db.conn.execute(query, [model_id]).fetchone()[0])  # type: ignore[index]

    def run_state(self, run_id: str) -> str:
        return str(self.airflow.rows("select state from dag_run where run_id = %s", run_id)[0][0])


def register(conn: Any) -> None:
    """Register five models that are judged alike, and label every entity."""
    sample_registry.put_cycle(
        conn,
        cycle_id="judged",
        schedule="0-25/5 12 1 3 *",
        max_active_runs=4,
        execution=Execution.INLINE,
        input_query=QUERY,
    )
    for model_id, wrong in {"better": 2, "silent": 2, "worse": 40, "steady": 2, "fresh": 2}.items():
        entrypoint = "tests.e2e.promotion_models:Judge"
        sample_registry.put_model(conn, model_id, cycle_id="judged", entrypoint=entrypoint)
        sample_registry.put_version(conn, f"{model_id}@1", Role.PRIMARY, wrong=20)
        silent = {"silent_from": SILENT_FROM} if model_id == "silent" else {}
        sample_registry.put_version(conn, f"{model_id}@2", wrong=wrong, **silent)
    sample_registry.put_version(conn, "fresh@3")  # without the param that it needs
    labels = [
        Label(
            cycle_id="judged", entity_id=f"e{n}", valid_from=FIRST - STEP, valid_to=FIRST + CYCLES * STEP,
            is_positive=is_positive(n), source="port inspection",
        )
        for n in range(ENTITIES)
    ]  # fmt: skip
    add_labels(Database(conn, sample_registry.SCHEMA), labels)
    conn.execute("update detection.detection_models set promotion = %s", [json.dumps(POLICY)])


def run_past_cycles(conn: Any) -> None:
    """Run the champions of the past cycles, as the cycle's Dag does."""
    for number in range(CYCLES):
        run_cycle(Database(conn, sample_registry.SCHEMA), FIRST + number * STEP)


def run_cycle(db: Database, at: datetime) -> None:
    """Run the versions that are in force at an instant."""
    planning.open_cycle(db, "judged", at, mode=Mode.AS_OF)
    reports = inline.run_inline(db, SETTINGS, "judged", at, mode=Mode.AS_OF).reports
    assert {report.error for report in reports} == {None}


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory, server: str) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("promotion")
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps(dict.fromkeys(USERS, "password")))
    environment = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
            map(":".join, {**USERS, "root": "admin"}.items())
        ),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    passwords.write_text(json.dumps(dict.fromkeys([*USERS, "root"], "password")))
    options = {"allowed_modules": "tests.e2e", "plan_ttl": "1"}
    with airflow_instance(folder, server, environment=environment, **options) as airflow:
        register(airflow.registry)
        run_past_cycles(airflow.registry)
        (airflow.dags / "promotion.py").write_text(DAG_FILE)
        shutil.copy(CHECKOUT / "dags" / "detection_cycles.py", airflow.dags)
        airflow.start()
        airflow.start_component("triggerer")
        address = airflow.api.address
        airflow.wait(airflow.has_api, "the start of Airflow")
        users = {name: signed_in(address, name) for name in [*USERS, "root"]}
        airflow.api = users["root"]
        airflow.wait(lambda: airflow.has_dags(DAG, CYCLE), "the Dags")
        airflow.api.unpause(DAG)
        yield Setting(airflow, Database(airflow.registry, sample_registry.SCHEMA), users)


def signed_in(address: str, name: str) -> Airflow:
    """The API as one user."""
    client = Airflow(address)
    body = {"username": name, "password": "password"}
    client._token = client._once("POST", "/auth/token", body)["access_token"]
    return client


def replay(setting: Setting, *versions: str) -> None:
    """Replay versions over the past cycles with Airflow's own backfill."""
    body = {
        "dag_id": CYCLE,
        "from_date": FIRST.isoformat(),
        "to_date": (FIRST + (CYCLES - 1) * STEP).isoformat(),
        "dag_run_conf": {"mode": "override", "replay": list(versions)},
        "max_active_runs": 4,
        "reprocess_behavior": "completed",
    }
    setting.airflow.api._call("POST", "/api/v2/backfills", body)
    setting.airflow.api.unpause(CYCLE)
    setting.airflow.wait_for_runs(CYCLE, CYCLES)


def test_a_better_challenger_is_replayed_asked_for_approved_by_another_watched_and_kept(
    setting: Setting,
) -> None:
    replay(setting, "better@2", "silent@2", "worse@2", "steady@2")
    run_id = setting.ask("ana", "better@2", reason="fewer false alarms", watch_hours=WATCH_S / 3600)
    setting.airflow.wait(lambda: setting.waits(run_id), "a request that waits")
    body = setting.shown(run_id)
    assert "better@2" in body
    assert "fewer false alarms" in body
    assert re.search(r"\| `e1?[2-9]` \| ", body), "entities on which the two differ are named"
    assert setting.state(run_id) is State.JUDGED
    assert setting.champion("better") == "1"

    with pytest.raises(ApiError) as refused:
        setting.answer("vic", run_id, "Approve")
    assert refused.value.status == 403
    assert setting.champion("better") == "1"
    setting.answer("ben", run_id, "Approve")
    promotion = setting.wait_for(run_id, State.IN_FORCE, State.KEPT)
    assert setting.champion("better") == "2"
    assert [(c.state, c.actor) for c in promotion.states[:4]] == [
        (State.REQUESTED, "ana"),
        (State.JUDGED, "ana"),
        (State.APPROVED, "ben"),
        (State.IN_FORCE, "ben"),
    ]
    row = setting.db.conn.execute(
        "select actor, reason from detection.detection_model_roles"
        " where promotion_id = %s and role = 'PRIMARY'", [promotion.promotion_id],
    ).fetchone()  # fmt: skip
    assert row == ("ben", "fewer false alarms")
    setting.wait_for(run_id, State.KEPT)
    setting.airflow.wait(lambda: setting.run_state(run_id) == "success", "the end of the run")


def test_a_version_that_falls_silent_is_rolled_back_without_a_person(setting: Setting) -> None:
    run_id = setting.ask("ana", "silent@2", watch_hours=1)
    setting.airflow.wait(lambda: setting.waits(run_id), "a request that waits")
    setting.answer("ben", run_id, "Approve")
    setting.wait_for(run_id, State.IN_FORCE)
    assert setting.champion("silent") == "2"
    for _ in range(3):
        run_cycle(setting.db, datetime.now(UTC))  # a run in Airflow is for the tick before it
    promotion = setting.wait_for(run_id, State.ROLLED_BACK)
    assert setting.champion("silent") == "1"
    assert promotion.states[-1].actor == "detection watch"
    assert "SILENT_FAULT" in promotion.states[-1].reason
    setting.airflow.wait(lambda: setting.run_state(run_id) == "success", "the end of the run")


def test_a_worse_challenger_is_refused_with_the_reason_where_it_would_be_approved(setting: Setting) -> None:
    run_id = setting.ask("ana", "worse@2", reason="it looks good")
    promotion = setting.wait_for(run_id, State.REFUSED)
    setting.airflow.wait(lambda: setting.run_state(run_id) == "failed", "the end of the run")
    reason = promotion.states[-1].reason
    assert reason.startswith("evidence: ")
    assert setting.shown(run_id).startswith("**The policy refuses this promotion.** evidence: ")
    assert setting.champion("worse") == "1"


@pytest.mark.long
def test_a_challenger_without_a_history_is_replayed_first(setting: Setting) -> None:
    run_id = setting.ask("ana", "fresh@2", replay_cycles=CYCLES)
    setting.airflow.wait(lambda: setting.waits(run_id), "a request that waits")
    assert f"{CYCLES} cycles were completed by both, {CYCLES} of them with a replay" in setting.shown(run_id)
    runs = setting.db.conn.execute(
        "select count(*), bool_and(is_replay), bool_and(outcome = 'SUCCEEDED')"
        " from detection.detection_model_runs join detection.detection_model_versions v using (version_id)"
        " where v.model_id = 'fresh' and v.version = '2'"
    ).fetchone()  # fmt: skip
    assert runs == (CYCLES, True, True)
    setting.answer("ben", run_id, "Reject")
    setting.wait_for(run_id, State.REJECTED)
    assert f"replay {CYCLES} of {CYCLES}" in setting.log(run_id)
    run_id = setting.ask("ana", "fresh@2", replay_cycles=CYCLES)
    setting.airflow.wait(lambda: setting.waits(run_id), "a request that waits")
    assert f"has a result in {CYCLES} of the last {CYCLES} cycles of fresh@1: 0 to replay" in setting.log(
        run_id
    )
    setting.answer("ben", run_id, "Reject")
    setting.wait_for(run_id, State.REJECTED)


SCHEDULED = 'schedule="@once", start_date=__import__("datetime").datetime(2026, 3, 1)'


def documented_dag() -> str:
    """The Dag of docs/promotion.md that asks for a promotion."""
    text = (CHECKOUT / "docs" / "promotion.md").read_text()
    return next(
        code for code in re.findall(r"```python\n(.*?)```", text, re.S) if "request_promotion" in code
    )


@pytest.mark.long
def test_a_task_asks_in_the_name_of_the_user_who_started_its_run(setting: Setting) -> None:
    """That user cannot approve; and a run that a schedule started asks for nobody."""
    code = documented_dag()
    (setting.airflow.dags / "documented.py").write_text(code)
    once = code.replace("def challenger()", "def scheduled()").replace("\nchallenger()", "\nscheduled()")
    once = (
        once.replace("schedule=None", SCHEDULED)
        .replace('Param(type="string")', 'Param("fresh@1")', 1)
        .replace('Param(type="string")', 'Param("fresh@2")')
    )
    (setting.airflow.dags / "scheduled.py").write_text(once)
    setting.airflow.wait(lambda: setting.airflow.has_dags("challenger", "scheduled"), "the documented Dag")
    for dag_id in ("challenger", "scheduled"):
        setting.airflow.api.unpause(dag_id)
    body = {"dag_run_id": "asks", "logical_date": None}
    conf = {"champion": "fresh@1", "challenger": "fresh@2"}
    setting.users["ana"]._call("POST", "/api/v2/dags/challenger/dagRuns", body | {"conf": conf})
    setting.airflow.wait(lambda: setting.run_state("asks") == "success", "the end of the documented Dag")

    def newest() -> promotions.Promotion:
        return promotions.promotions(setting.db, model_id="fresh", limit=1)[0]

    setting.airflow.wait(lambda: newest().source.startswith(f"{DAG} asked__"), "its request")
    asked = newest()
    run_id = asked.source.removeprefix(f"{DAG} ")
    setting.airflow.wait(lambda: setting.waits(run_id), "a request that waits")
    assert (asked.requested_by, asked.watch) == ("ana", timedelta(hours=24))
    assert re.fullmatch(r"E is [0-9.e+]+; the hour: no report yet", asked.reason)
    setting.answer("ana", run_id, "Approve")
    refused = setting.wait_for(run_id, State.REFUSED)
    assert refused.states[-1].reason == "ana asked for it and cannot approve it"

    query = "select run_id, state from dag_run where dag_id = 'scheduled'"
    setting.airflow.wait(lambda: [row[1] for row in setting.airflow.rows(query)] == ["failed"], "its end")
    assert newest().promotion_id == asked.promotion_id, "nothing was asked for since"


@pytest.mark.long
def test_a_challenger_that_fails_in_each_replay_is_asked_for_no_longer(setting: Setting) -> None:
    run_id = setting.ask("ana", "fresh@3", replay_cycles=CYCLES)
    promotion = setting.wait_for(run_id, State.WITHDRAWN)
    reason = f"it could not be judged: fresh@3 succeeded in none of {CYCLES} replays, the last: "
    assert promotion.states[-1].reason.startswith(reason)
    setting.airflow.wait(lambda: setting.run_state(run_id) == "failed", "the end of the run")


def test_an_approval_cannot_be_forged(setting: Setting) -> None:
    """By the one who asked, by marking the task successful, by an XCom, or twice."""
    run_id = setting.ask("ana", "steady@2")
    setting.airflow.wait(lambda: setting.waits(run_id), "a request that waits")
    second = setting.ask("ben", "steady@2")
    setting.airflow.wait(lambda: setting.run_state(second) == "failed", "the end of the second run")
    assert setting.promotion(second) is None, "one promotion of a model at a time"
    setting.answer("ana", run_id, "Approve")
    promotion = setting.wait_for(run_id, State.REFUSED)
    assert promotion.states[-1].reason == "ana asked for it and cannot approve it"

    run_id = setting.ask("ana", "steady@2")
    setting.airflow.wait(lambda: setting.waits(run_id), "a request that waits")
    task = f"/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances/approve"
    entry = {"key": "return_value", "value": {"responded_by_user": {"name": "ben"}}, "map_index": -1}
    setting.users["ana"]._call("POST", f"{task.rsplit('/', 1)[0]}/approve/xcomEntries", entry)
    setting.users["ana"]._call("PATCH", task, {"new_state": "success"})
    setting.airflow.wait(lambda: setting.run_state(run_id) in ("success", "failed"), "the end of the run")
    assert setting.state(run_id) is State.JUDGED, "nothing was approved"
    assert setting.champion("steady") == "1"
    third = setting.ask("ana", "steady@2")
    setting.airflow.wait(lambda: setting.run_state(third) == "failed", "another one is under way")
    waiting = setting.promotion(run_id)
    assert waiting is not None
    promotions.record(setting.db, waiting.promotion_id, State.WITHDRAWN, reason="forged")


def test_a_request_that_is_rejected_or_not_answered_changes_nothing(setting: Setting) -> None:
    run_id = setting.ask("ana", "steady@2")
    setting.airflow.wait(lambda: setting.waits(run_id), "a request that waits")
    setting.answer("ben", run_id, "Reject")
    promotion = setting.wait_for(run_id, State.REJECTED)
    assert promotion.states[-1].actor == "ben"
    setting.airflow.wait(lambda: setting.run_state(run_id) == "success", "the end of the run")
    assert setting.champion("steady") == "1"
