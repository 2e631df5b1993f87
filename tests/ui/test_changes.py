"""Routes that change something: for a page of this server, with the right to edit, and with an audit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
from tests.ui.conftest import AT, FIRST, Pages
from tests.ui.page_models import HOSTILE, STRANGER

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.e2e


def event_of(pages: Pages, model_id: str = "spoofing", entity_id: str = "b") -> int:
    row = pages.db.conn.execute(
        "select event_id from detection.detection_events where model_id = %s and entity_id = %s",
        [model_id, entity_id],
    ).fetchone()
    assert row is not None
    return int(row[0])


def post(
    pages: Pages, path: str, body: object, user: str = "editor", headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """A request as a page of the server makes it, but for some headers."""
    own = {"Sec-Fetch-Site": "same-origin", "Origin": pages.address}
    given = {name: value for name, value in (own | dict(headers or {})).items() if value}
    return pages.client(user).post(f"api/{path}", json=body, headers=given)


def forget(pages: Pages) -> None:
    """Open all events again."""
    pages.db.conn.execute(
        "update detection.detection_events set status = 'OPEN', acknowledged_at = null,"
        " acknowledged_by = null, acknowledged_reason = null, hand_closed_at = null, closed_by = null,"
        " closed_reason = null, closed_at = null"
    )


def audit(pages: Pages) -> list[tuple[Any, ...]]:
    return pages.airflow.rows(
        "select event, owner, dag_id, extra from log where event like 'detection_%%' order by id"
    )


def test_an_editor_acknowledges_and_closes_an_event_in_their_own_name(pages: Pages) -> None:
    forget(pages)
    event_id, before = event_of(pages), len(audit(pages))
    seen = post(pages, f"events/{event_id}/acknowledge", {"reason": HOSTILE})
    assert seen.status_code == 200, seen.text
    assert (seen.json()["acknowledged_by"], seen.json()["note"]) == ("editor", HOSTILE)
    closed = post(pages, f"events/{event_id}/close", {"reason": "boarded"}, "root")
    assert (closed.json()["status"], closed.json()["closed_by"]) == ("CLOSED", "root")
    again = post(pages, f"events/{event_id}/close", {"reason": "boarded"})
    assert again.status_code == 400
    assert "is CLOSED by root" in again.json()["detail"]
    written = audit(pages)[before:]
    assert [row[:3] for row in written] == [
        ("detection_acknowledge_event", "editor", "detection_fleet"),
        ("detection_close_event", "root", "detection_fleet"),
    ], "and nothing of what was refused"
    assert json.loads(written[0][3]) == {"event_id": event_id, "reason": HOSTILE}
    forget(pages)


def test_an_event_is_closed_with_a_reason(pages: Pages) -> None:
    answer = post(pages, f"events/{event_of(pages)}/close", {"reason": "  "})
    assert (answer.status_code, "with a reason" in answer.json()["detail"]) == (400, True)


LABEL = {"cycle_id": "fleet", "model_id": "spoofing", "entity_id": "c", "is_positive": False,
         "start": FIRST.isoformat(), "end": AT.isoformat(), "source": "radar", "note": "calm"}  # fmt: skip


def test_a_label_is_added_once_in_the_users_name(pages: Pages) -> None:
    assert post(pages, "labels", LABEL).json() in ({"added": 1}, {"added": 0})
    assert post(pages, "labels", LABEL, "root").json() == {"added": 0}
    (label,) = pages.get("entities/c")["labels"]
    assert (label["actor"], label["source"], label["is_positive"]) == ("editor", "radar", False)
    assert ("detection_add_label", "editor", "detection_fleet") in [row[:3] for row in audit(pages)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (LABEL | {"end": FIRST.isoformat()}, 400),
        (LABEL | {"model_id": "secret"}, 400),
        (LABEL | {"cycle_id": "nowhere", "model_id": None}, 404),
        (LABEL | {"entity_id": ""}, 400),
        (LABEL | {"entity_id": "x" * 501}, 400),
        (LABEL | {"entity_id": "a\0b"}, 400),
        (LABEL | {"note": "x" * 2001}, 400),
        (LABEL | {"more": 1}, 400),
        ([], 400),
    ],
)
def test_a_label_that_cannot_be_is_refused_with_a_sentence(pages: Pages, body: object, status: int) -> None:
    answer = post(pages, "labels", body, "root")
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"detail"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": ""},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
    ],
    ids=str,
)
def test_another_origin_changes_nothing_though_the_cookie_goes_along(
    pages: Pages, headers: dict[str, str]
) -> None:
    forget(pages)
    event_id, before = event_of(pages), audit(pages)
    for path, body in (
        (f"events/{event_id}/acknowledge", {"reason": ""}),
        (f"events/{event_id}/close", {"reason": "x"}),
        ("labels", LABEL | {"note": "forged"}),
    ):
        answer = post(pages, path, body, "root", headers)
        assert answer.status_code == 403, path
    assert pages.get(f"events/{event_id}")["acknowledged_by"] is None
    assert audit(pages) == before


def test_a_form_changes_nothing(pages: Pages) -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "Origin": pages.address}
    path = f"api/events/{event_of(pages)}/close"
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        answer = pages.client("root").post(
            path, content=b'{"reason": "x"}', headers=headers | {"Content-Type": kind}
        )
        assert answer.status_code == 400, kind


def test_a_viewer_changes_nothing_and_a_stranger_learns_nothing(pages: Pages) -> None:
    forget(pages)
    mine, hidden = event_of(pages), event_of(pages, "secret", "a")
    for path, body in ((f"events/{mine}/acknowledge", {}), (f"events/{mine}/close", {"reason": "x"}),
                       ("labels", LABEL)):  # fmt: skip
        answer = post(pages, path, body, "viewer")
        assert answer.status_code == 403, path
        assert "detection_fleet" in answer.json()["detail"]
    for verb in ("acknowledge", "close"):
        refused = post(pages, f"events/{hidden}/{verb}", {"reason": "x"}, STRANGER)
        unknown = post(pages, f"events/987654/{verb}", {"reason": "x"}, STRANGER)
        assert refused.status_code == unknown.status_code == 404
        assert refused.json()["detail"].replace(str(hidden), "987654") == unknown.json()["detail"]
    assert post(pages, "labels", LABEL | {"cycle_id": "hidden"}, STRANGER).status_code == 400
    for label in (LABEL | {"cycle_id": "hidden", "model_id": None}, LABEL | {"model_id": "secret"}):
        assert post(pages, "labels", label, STRANGER).status_code == 404
    assert pages.get(f"events/{mine}")["acknowledged_by"] is None


@pytest.mark.parametrize(
    "path",
    [
        "events/99999999999999999999",
        "entities/a%00b",
        "entities?q=%00",
        "promotions/1e9",
        "reports/-1",
        "findings?model_id=spoofing&version=1&at=9999-99-99",
        "models/%ff",
        "events?limit=1000000",
    ],
)
def test_a_value_that_nothing_can_have_is_one_sentence(pages: Pages, path: str) -> None:
    answer = pages.client("root").get(f"api/{path}")
    assert answer.status_code in (400, 404), answer.text
    assert set(answer.json()) == {"detail"}
