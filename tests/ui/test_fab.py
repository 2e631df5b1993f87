"""The pages behind the FAB auth manager: which right shows what."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.ui.conftest import Pages, running_pages
from tests.ui.fab_users import USERS
from tests.ui.test_access import hidden_event, routes

if TYPE_CHECKING:
    from tests.e2e.airflow_instance import AirflowInstance

pytestmark = pytest.mark.e2e
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"


@pytest.fixture(scope="module")
def fab(tmp_path_factory: pytest.TempPathFactory, server: str) -> Iterator[Pages]:
    folder = tmp_path_factory.mktemp("fab")
    environment = {"AIRFLOW__CORE__AUTH_MANAGER": FAB}
    with running_pages(folder, server, environment, USERS, add_users) as found:
        yield found


def add_users(airflow: AirflowInstance) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.ui.fab_users"],
        env=dict(airflow.env), capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def plugins(fab: Pages, user: str) -> httpx.Response:
    return httpx.get(f"{fab.address}/api/v2/plugins", cookies={"_token": fab.tokens[user]}, timeout=30)


def test_nobody_gets_an_answer(fab: Pages) -> None:
    anyone = fab.client("anyone")
    for method, path in routes():
        answer = anyone.request(method, path.lstrip("/"), headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 401, (method, path)


def test_the_pages_are_announced_to_who_may_read_plugins(fab: Pages) -> None:
    assert plugins(fab, "viewer").status_code == 403
    for user in ("root", "analyst", "stranger"):
        assert "detection" in [plugin["name"] for plugin in plugins(fab, user).json()["plugins"]], user


def test_the_right_to_read_all_dags_shows_every_cycle_and_changes_nothing(fab: Pages) -> None:
    for user in ("viewer", "analyst"):
        overview = fab.get("overview", user)
        assert [cycle["cycle_id"] for cycle in overview["cycles"]] == ["fleet", "hidden"]
        assert overview["may_edit"] == []
    assert fab.get("overview")["may_edit"] == ["fleet", "hidden"]


def test_a_right_to_one_dag_shows_its_cycle_alone(fab: Pages) -> None:
    overview = fab.get("overview", "stranger")
    assert [cycle["cycle_id"] for cycle in overview["cycles"]] == ["fleet"]
    assert overview["may_edit"] == ["fleet"]
    for path in ("overview", "events", "promotions"):
        text = fab.client("stranger").get(f"api/{path}").text
        assert "secret" not in text, path
        assert "hidden" not in text, path
    for path in ("models/secret", "cycles/hidden/plan", f"events/{hidden_event(fab)}"):
        assert fab.status(path, "stranger") == 404, path
        assert fab.status(path) == 200, path


@pytest.mark.parametrize(("user", "status"), [("viewer", 403), ("analyst", 403), ("stranger", 200)])
def test_only_who_may_edit_the_dag_acknowledges_its_events(fab: Pages, user: str, status: int) -> None:
    row = fab.db.conn.execute("select event_id from detection.detection_events where model_id = 'spoofing'")
    event_id = (row.fetchone() or (0,))[0]
    answer = fab.client(user).post(
        f"api/events/{event_id}/acknowledge",
        json={"reason": "seen"},
        headers={"Sec-Fetch-Site": "same-origin", "Origin": fab.address},
    )
    assert answer.status_code == status, answer.text
