"""The pages' API as a person's browser asks it: what is found, and what is what the hook says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from tests.ui.conftest import AT, CYCLES, FIRST, STEP, Pages

from airflow_detection.store import registry

pytestmark = pytest.mark.e2e


def test_the_overview_says_what_is_the_matter(pages: Pages) -> None:
    overview = pages.get("overview")
    assert overview["headline"]["start"] == "2026-03-01T12:00:00Z"
    assert [c["cycle_id"] for c in overview["cycles"]] == ["fleet", "hidden"]
    fleet = overview["cycles"][0]
    assert fleet["dag_id"] == "detection_fleet"
    assert fleet["newest"] == "2026-03-01T12:15:00Z"
    assert fleet["is_late"], "the next was due long ago"
    assert fleet["outcomes"] == {"SUCCEEDED": 3, "FAILED": 1}
    spoofing = next(m for m in overview["models"] if m["model_id"] == "spoofing")
    assert spoofing["champion"]["label"] == "spoofing@1"
    assert [v["version"] for v in spoofing["others"]] == ["2", "3"]
    assert len(spoofing["strip"]) == 24
    assert spoofing["strip"][-1]["at"] == "2026-03-01T12:00:00Z"
    assert spoofing["strip"][-1]["kind"]
    assert {e["entity_id"] for e in overview["events"]} >= {"a", "b"}
    assert overview["open_events"] == len(overview["events"])
    assert {p["label"] for p in overview["promotions"]} == {"spoofing@2", "secret@2"}
    assert overview["promotions"][0]["run_id"] == "run-1"
    assert overview["may_edit"] == ["fleet", "hidden"]
    brief = pages.get("headline")
    assert brief == {"headline": overview["headline"], "troubles": overview["troubles"]}


def test_a_model_has_its_versions_and_their_history(pages: Pages) -> None:
    model = pages.get("models/spoofing")
    assert model["depends_on"] == ["tracks"]
    assert model["dag_id"] == "detection_fleet"
    assert [v["label"] for v in model["versions"]] == ["spoofing@1", "spoofing@2", "spoofing@3"]
    assert model["versions"][0]["params"]["step_s"] == 60
    assert model["versions"][0]["entry_point"] == "tests.ui.page_models:Fixed"
    assert len(model["roles"]) == 3
    assert [v["trained"] for v in model["versions"][:2]] == [None, None]
    assert model["versions"][2]["trained"] == {
        "base_version": "1",
        "data_start": "2026-02-27T12:00:00Z",
        "data_end": "2026-03-01T12:00:00Z",
        "as_of": "2026-03-01T12:00:00Z",
        "row_count": 90,
        "label_count": 7,
        "metrics": {"average_precision": 0.75},
    }


def test_a_series_has_one_line_for_each_version_that_ran(pages: Pages) -> None:
    series = pages.get("models/spoofing/series")
    assert (series["bucket_s"], series["end"]) == (432.0, "2026-03-01T12:15:01Z")
    lines = {line["label"]: line for line in series["lines"]}
    assert set(lines) == {"spoofing@1", "spoofing@2", "spoofing@3"}
    one = lines["spoofing@1"]
    assert sum(one["cycles"]) == CYCLES
    assert sum(n or 0 for n in one["outputs"]) == 4 * CYCLES
    assert sum(n or 0 for n in one["flagged"]) == 3 * CYCLES
    assert [sum(b[n] for b in one["score_buckets"] if b) for n in range(5)] == [
        0,
        CYCLES,
        0,
        CYCLES,
        2 * CYCLES,
    ]
    assert {v for v in lines["spoofing@3"]["verdicts"] if v} == {"FAILED"}
    assert len(series["at"]) == len(one["cycles"]) == len(one["verdicts"])


def test_a_series_in_buckets_of_a_cycle_has_every_cycle(pages: Pages) -> None:
    period = {"start": FIRST.isoformat(), "end": (AT + STEP).isoformat()}
    series = pages.get("models/spoofing/series", **period)
    assert series["bucket_s"] == 300
    assert series["lines"][0]["cycles"] == [1] * CYCLES


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"start": "x"}, "start"),
        ({"start": AT.isoformat(), "end": FIRST.isoformat()}, "must be above 0"),
        ({"start": "2020-01-01", "end": "2026-01-01"}, "at most 92 days"),
    ],
)
def test_a_wrong_period_is_one_sentence(pages: Pages, params: dict[str, Any], text: str) -> None:
    answer = pages.client("root").get("api/models/spoofing/series", params=params)
    assert answer.status_code == 400
    assert text in answer.json()["detail"]


def test_a_plan_is_that_of_the_hook_at_any_instant(pages: Pages) -> None:
    plan = pages.get("cycles/fleet/plan")
    assert [(n["model_id"], n["wave"]) for n in plan["nodes"]] == [("tracks", 0), ("spoofing", 1)]
    assert plan["edges"] == [{"upstream": "tracks", "downstream": "spoofing"}]
    assert [v["version"] for v in plan["nodes"][1]["others"]] == ["2", "3"]
    before = pages.get("cycles/fleet/plan", at=(sample_start() - timedelta(days=1)).isoformat())
    assert before["nodes"] == []
    specs = registry.models_at(pages.db, "fleet", AT)
    at = pages.get("cycles/fleet/plan", at=AT.isoformat())
    assert {n["model_id"] for n in at["nodes"]} == {s.model_id for s in specs}


def sample_start() -> Any:
    from tests.sample_registry import SINCE

    return SINCE


def test_the_picture_of_a_plan_is_an_image_with_both_versions_of_the_colours(pages: Pages) -> None:
    answer = pages.client("viewer").get("api/cycles/fleet/plan.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "prefers-color-scheme: dark" in answer.text
    assert "spoofing" in answer.text
    again = pages.client("viewer").get(
        "api/cycles/fleet/plan.svg", headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, again.text) == (304, "")


def test_the_instances_of_a_cycle_are_pages_of_a_list(pages: Pages) -> None:
    first = pages.get("cycles/fleet/runs", limit=3)
    second = pages.get("cycles/fleet/runs", limit=3, after=first["next"])
    rows = first["items"] + second["items"]
    assert second["next"] is None
    assert [r["cycle_started_at"] for r in rows] == [f"2026-03-01T12:{n:02}:00Z" for n in (15, 10, 5, 0)]
    assert rows[0]["outcomes"] == {"SUCCEEDED": 3, "FAILED": 1}
    assert rows[0]["run_id"] == f"scheduled__{AT.isoformat()}"
    assert rows[0]["inputs"] == 0


@pytest.mark.parametrize("after", ["x", "[]", "[1, 2]", '["2026-01-01", 3]', "[" * 5000, '["x", "as_of"]'])
def test_a_key_that_is_none_is_refused(pages: Pages, after: str) -> None:
    assert pages.status("cycles/fleet/runs", after=after) == 400


def test_an_instance_has_its_plan_its_manifests_and_its_inputs(pages: Pages) -> None:
    run = pages.get(f"cycles/fleet/runs/{quote(AT.isoformat())}")
    assert run["is_recorded"]
    assert [n["model_id"] for n in run["plan"]["nodes"]] == ["tracks", "spoofing"]
    by_label = {m["version"]["label"]: m for m in run["manifests"]}
    assert by_label["spoofing@1"]["outcome"] == "SUCCEEDED"
    assert by_label["spoofing@1"]["flagged"] == 3
    assert by_label["spoofing@1"]["task_id"] == "spoofing"
    assert by_label["spoofing@2"]["task_id"] == "spoofing__2"
    assert by_label["spoofing@3"]["outcome"] == "FAILED"
    assert by_label["spoofing@3"]["verdict"] == "FAILED"
    assert "alert(1)" in by_label["spoofing@3"]["error"]
    assert {i["model_id"] for i in run["inputs"]} == {"tracks", "spoofing"}
    assert pages.status("cycles/fleet/runs/2020-01-01T00:00:00Z") == 404


def test_events_are_filtered_and_come_in_pages(pages: Pages) -> None:
    found = pages.get("events", cycle_id="fleet", status="OPEN")["items"]
    assert {e["entity_id"] for e in found} >= {"a", "b"}
    assert {e["model_id"] for e in found} == {"spoofing"}
    assert found[0]["evidence"]["evidence"]["why"]
    assert pages.get("events", entity_id="b", severity="LOW")["items"] == []
    seen, after = [], None
    while True:
        page = pages.get("events", limit=1, **({"after": after} if after else {}))
        seen += page["items"]
        after = page["next"]
        if after is None:
            break
    assert len({e["event_id"] for e in seen}) == len(seen) == 4
    assert pages.get(f"events/{seen[0]['event_id']}") == seen[0]


def test_promotions_have_their_states_and_evidence(pages: Pages) -> None:
    rows = pages.get("promotions", model_id="spoofing")["items"]
    assert [(r["label"], r["from_label"], r["state"]) for r in rows] == [
        ("spoofing@2", "spoofing@1", "JUDGED")
    ]
    whole = pages.get(f"promotions/{rows[0]['promotion_id']}")
    assert [s["state"] for s in whole["states"]] == ["REQUESTED", "JUDGED"]
    assert whole["states"][1]["evidence"] == {"cycles": 4}
