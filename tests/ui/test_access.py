"""Who gets which answer: nobody, a viewer, and a user who may not read the Dag of one cycle."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.ui.conftest import AT, Pages
from tests.ui.page_models import STRANGER

pytestmark = pytest.mark.e2e
SAMPLES = {
    "cycle_id": "fleet",
    "model_id": "spoofing",
    "entity_id": "a",
    "event_id": "1",
    "promotion_id": "1",
    "snapshot_id": "1",
    "at": AT.isoformat(),
    "dag_id": "detection_fleet",
    "run_id": "x",
    "name": "icon.svg",
}


def routes() -> Iterator[tuple[str, str]]:
    """Every method and path of the application, with sample values in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from airflow_detection.ui.service import create_app

        app = create_app()
    for route in app.routes:
        path = route.path  # type: ignore[attr-defined]
        for name, value in SAMPLES.items():
            path = path.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
        assert "{" not in path, f"SAMPLES has no value for {path}"
        for method in sorted(route.methods):  # type: ignore[attr-defined]
            yield method, path


def test_nobody_gets_an_answer_and_there_is_no_page_about_the_api(pages: Pages) -> None:
    found = list(routes())
    assert len(found) > 10
    anyone = pages.client("anyone")
    for method, path in found:
        answer = anyone.request(method, path.lstrip("/"), headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 401, (method, path)
        assert answer.json() == {"detail": "Not authenticated"}
        forged = httpx.request(
            method, f"{pages.address}/detection{path}", cookies={"_token": "x.y.z"}, timeout=30
        )
        assert forged.status_code in (401, 403), (method, path)
    for path in ("docs", "redoc", "openapi.json", "api/docs", "api/openapi.json"):
        assert pages.client("root").get(path).status_code == 404


@pytest.mark.parametrize("path", ["overview", "headline", "models/spoofing", "cycles/fleet/plan", "events"])
def test_a_viewer_sees_what_an_admin_sees(pages: Pages, path: str) -> None:
    seen, whole = pages.get(path, "viewer"), pages.get(path)
    for answer in (seen, whole):
        for name in ("now", "may_edit", "cycles", "at", "known_at"):
            if isinstance(answer, dict):
                answer.pop(name, None)
    assert seen == whole


def test_only_who_may_edit_a_dag_is_told_so(pages: Pages) -> None:
    assert pages.get("overview", "viewer")["may_edit"] == []
    assert pages.get("overview", "editor")["may_edit"] == ["fleet", "hidden"]
    assert pages.get("overview", STRANGER)["may_edit"] == ["fleet"]


def hidden_event(pages: Pages) -> int:
    row = pages.db.conn.execute("select event_id from detection.detection_events where model_id = 'secret'")
    return int((row.fetchone() or (0,))[0])


def hidden_promotion(pages: Pages) -> int:
    row = pages.db.conn.execute(
        "select promotion_id from detection.detection_promotions where model_id = 'secret'"
    )
    return int((row.fetchone() or (0,))[0])


def test_what_a_user_may_not_read_is_answered_as_what_does_not_exist(pages: Pages) -> None:
    at = AT.isoformat()
    unknown = 987654
    pairs: list[tuple[str, str, dict[str, Any]]] = [
        ("models/{}", "secret", {}),
        ("models/{}/series", "secret", {}),
        ("cycles/{}/plan", "hidden", {}),
        ("cycles/{}/plan.svg", "hidden", {}),
        ("cycles/{}/runs", "hidden", {}),
        (f"cycles/{{}}/runs/{at}", "hidden", {}),
        ("dag_runs/{}/run-1", "detection_hidden", {}),
        ("events/{}", str(hidden_event(pages)), {}),
        ("promotions/{}", str(hidden_promotion(pages)), {}),
        ("findings?version=1&model_id={}", "secret", {}),
        ("findings/outputs?version=1&model_id={}", "secret", {}),
        ("entities/a?cycle_id={}", "hidden", {}),
        ("entities?q=a&cycle_id={}", "hidden", {}),
    ]
    stranger, root = pages.client(STRANGER), pages.client("root")
    for form, name, params in pairs:
        other = str(unknown) if name.isdecimal() else "nowhere"
        mine = stranger.get("api/" + form.format(name), params=params or None)
        none = stranger.get("api/" + form.format(other), params=params or None)
        assert mine.status_code == none.status_code == 404, form
        assert mine.json()["detail"].replace(name, other) == none.json()["detail"]
        if not form.startswith("dag_runs"):
            assert root.get("api/" + form.format(name), params=params or None).status_code == 200, form
    for form, params in (("events", {"model_id": "secret"}), ("events", {"cycle_id": "hidden"}),
                         ("promotions", {"model_id": "secret"})):  # fmt: skip
        assert stranger.get(f"api/{form}", params=params).status_code == 404


@pytest.mark.parametrize("path", ["overview", "headline", "events", "promotions"])
def test_no_list_names_anything_of_a_cycle_that_a_user_may_not_read(pages: Pages, path: str) -> None:
    text = pages.client(STRANGER).get(f"api/{path}").text
    assert "secret" not in text
    assert "hidden" not in text
    assert "secret" in pages.client("root").get(f"api/{path}").text or path == "headline"


def test_a_headline_speaks_of_what_the_user_may_read_alone(pages: Pages) -> None:
    own = pages.get("headline", STRANGER)["headline"]
    assert own["snapshot_id"] is None
    assert pages.get("headline")["headline"]["snapshot_id"] == 1


def test_answers_run_nothing_and_are_kept_by_nobody_else(pages: Pages) -> None:
    for path in ("api/overview", "api/cycles/fleet/plan.svg", "static/icon.svg", "api/nowhere"):
        headers = pages.client("root").get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"].startswith("private")


@pytest.mark.parametrize("name", ["../app.py", "%2e%2e/app.py", "nothing.js", "", "../static/../app.py"])
def test_no_file_but_those_of_the_pages_is_served(pages: Pages, name: str) -> None:
    assert pages.client("root").get(f"static/{name}").status_code == 404


def test_a_file_of_the_pages_is_sent_once(pages: Pages) -> None:
    answer = pages.client("viewer").get("static/icon.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    again = pages.client("viewer").get("static/icon.svg", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_airflow_announces_every_place_of_the_pages(pages: Pages) -> None:
    answer = httpx.get(
        f"{pages.address}/api/v2/plugins", cookies={"_token": pages.tokens["root"]}, timeout=30
    )
    plugin = next(p for p in answer.json()["plugins"] if p["name"] == "detection")
    places = {(p["destination"], p["name"]) for p in plugin["react_apps"]}
    assert places == {
        ("nav", "Detection"), ("dag", "Detection"), ("dag_run", "Detection"), ("task", "Findings"),
        ("task_instance", "Findings"), ("dashboard", "DetectionHeadline"), ("base", "DetectionBanner"),
    }  # fmt: skip
    for place in plugin["react_apps"]:
        assert place["bundle_url"] == "detection/static/detection.js"
    assert len({p["url_route"] for p in plugin["react_apps"]}) == len(places)
    assert not [p for p in answer.json()["plugins"] if p.get("errors")]
