"""The pages in a real browser: what a person looks for, by mouse and by keyboard, and hostile text."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests import sample_registry
from tests.e2e.browser import chromium, open_page, settle, signed_in
from tests.e2e.pages_instance import HOSTILE_MODEL, LAST, PagesInstance, pages_instance, run_cycle
from tests.ui.page_models import HOSTILE
from tests.ui.sources import node_modules

from airflow_detection.domain.specs import Role
from airflow_detection.snapshot.collector import hourly
from airflow_detection.snapshot.sections.catalog import sections

pytestmark = pytest.mark.e2e

AT = f"{LAST:%Y-%m-%dT%H:%M:%SZ}"
PAGE = "plugin/detection"
DAG = "dags/detection_maritime"
ENTITY = "367900043"  # one number that two ships send, in the simulated day
CYCLES = 2
GRAVE = ("serious", "critical")
CSP = "script-src 'self'; worker-src 'self' blob:; object-src 'none'"  # Airflow's own editor has a worker

PAGES = {
    "overview": (f"{PAGE}", ["Last report", "spoofing", "champion", "Promotions that wait", "maritime"]),
    "model": (
        f"{PAGE}?view=model&model=spoofing",
        [
            "v_max_kn",
            "differs",
            "Roles over time",
            "Duration, median",
            "spoofing@1.1 (replay)",
            "s3://models@acme-models/spoofing/3.0.skops",
            hashlib.sha256().hexdigest()[:16],
            "Trained on",
            "812,404 rows, 118 labels",
        ],
    ),
    "compare": (
        f"{PAGE}?view=compare&first=spoofing@1.0&second=spoofing@1.1",
        ["Coverage", "Cohen's kappa", "Precision", "What the policy of the model says", "Ask for promotion"],
    ),
    "cycle": (f"{PAGE}?view=cycle&cycle=maritime&at={AT}", ["track_quality", "What ran", "Replayed"]),
    "findings": (
        f"{PAGE}?view=findings&model=identity_collision&version=1.1&at={AT}",
        ["identity_collision@1.0 (champion)", ENTITY, "Canaries", "separation_km"],
    ),
    "entity": (
        f"{PAGE}?view=entity&entity={ENTITY}&cycle=maritime",
        ["Scores over time", "identity_collision@1.0", "Labels", "track_count"],
    ),
    "events": (f"{PAGE}?view=events", [ENTITY, "separation_km", "Acknowledge"]),
    "reports": (f"{PAGE}?view=reports", ["Stored reports", "The versions answer as they should"]),
    "report": (f"{PAGE}?view=reports&snapshot=2", ["Changes since the report before", "Stage timings"]),
    "dag": (f"{DAG}/plugin/detection-cycle", ["track_quality", "Cycles that ran"]),
    "home": ("", ["Open the report"]),
}


@dataclass(kw_only=True)
class Site:
    """The pages and a browser with a context for each user."""

    instance: PagesInstance
    browser: Browser
    axe: str

    def context(self, user: str = "root", **options: Any) -> BrowserContext:
        return signed_in(self.browser, self.instance.address, self.instance.tokens[user], **options)

    def url(self, path: str) -> str:
        return f"{self.instance.address}/{path}"

    def grave(self, page: Page) -> list[str]:
        """What axe-core finds in our part of a page that is serious or critical."""
        if not page.evaluate("Boolean(window.axe)"):
            page.evaluate(self.axe)
        found = page.evaluate("() => axe.run('[data-detection]', {resultTypes: ['violations']})")
        return [
            f"{v['id']}: {node['html'][:200]} {node['failureSummary']}"
            for v in found["violations"]
            if v["impact"] in GRAVE
            for node in v["nodes"][:3]
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, server: str) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pages")
    axe = node_modules(tmp_path_factory.mktemp("node")) / "axe-core" / "axe.min.js"
    with chromium() as browser, pages_instance(folder, server, cycles=CYCLES) as instance:
        yield Site(instance=instance, browser=browser, axe=axe.read_text())


@pytest.fixture(scope="module")
def light(site: Site) -> Iterator[BrowserContext]:
    context = site.context()
    yield context
    context.close()


@pytest.fixture(scope="module")
def dark(site: Site) -> Iterator[BrowserContext]:
    context = site.context(color_scheme="dark")
    yield context
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_a_person_looks_for_and_anyone_can_read_it(
    site: Site, light: BrowserContext, dark: BrowserContext, name: str
) -> None:
    path, texts = PAGES[name]
    for context in (light, dark):
        page, errors = open_page(context, site.url(path))
        for text in texts:
            expect(page.locator("[data-detection]").get_by_text(text).first).to_be_visible()
        assert errors == []
        assert site.grave(page) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [("plugin/detection-run", "What ran"), ("tasks/spoofing/plugin/detection-findings", "Highest scores")],
)
def test_a_run_and_its_tasks_have_tabs(site: Site, light: BrowserContext, path: str, text: str) -> None:
    page, errors = open_page(light, site.url(f"{DAG}/runs/{site.instance.run_id}/{path}"))
    expect(page.locator("[data-detection]").get_by_text(text)).to_be_visible()
    expect(page.locator("[data-detection]").get_by_text("spoofing@1.0").first).to_be_visible()
    assert errors == []
    assert site.grave(page) == []


def test_from_the_home_page_to_why_a_ship_was_flagged_and_what_the_challenger_says(
    site: Site, light: BrowserContext
) -> None:
    page, _ = open_page(light, site.url(""))
    page.get_by_role("link", name="Detection", exact=True).first.click()
    page.get_by_role("link", name=ENTITY).first.click()
    latest = page.get_by_role("region", name="Why it was scored: latest evidence")
    expect(latest.get_by_text("track_count").first).to_be_visible()
    expect(latest.get_by_role("row", name="identity_collision@1.1")).to_be_visible()
    latest.get_by_role("link", name="identity_collision@1.0").click()
    page.get_by_role("link", name="Compare versions").click()
    expect(page.get_by_text("Cohen's kappa")).to_be_visible()


def test_every_tab_can_be_reached_and_opened_by_keyboard(site: Site, light: BrowserContext) -> None:
    page, _ = open_page(light, site.url(PAGE))
    page.get_by_role("link", name="Overview", exact=True).focus()
    for name in ("Models", "Compare", "Cycle", "Entity", "Events", "Reports"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name=name, exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Stored reports")).to_be_visible()
    assert page.url.endswith("view=reports")


def test_times_are_in_the_zone_of_the_user_and_say_utc_beside(site: Site, light: BrowserContext) -> None:
    page, _ = open_page(light, site.url(f"{PAGE}?view=cycle&cycle=maritime"))
    time = page.locator(f"time[datetime='{AT}']").first
    expect(time).to_have_text("2025-01-02 01:00")
    expect(time).to_have_attribute("title", "2025-01-02 00:00 UTC")
    page.evaluate(
        "localStorage.setItem('timezone', '\"Asia/Tokyo\"'); dispatchEvent(new Event('local-storage'))"
    )
    expect(time).to_have_text("2025-01-02 09:00")
    page.evaluate("localStorage.removeItem('timezone')")


def test_the_language_is_the_one_of_airflows_own_pages(site: Site, light: BrowserContext) -> None:
    page, _ = open_page(light, site.url(PAGE))
    page.evaluate("localStorage.setItem('i18nextLng', 'de')")
    page.reload()
    settle(page)
    expect(page.get_by_role("link", name="Überblick")).to_be_visible()
    expect(page.locator("[data-detection]").first).to_have_attribute("lang", "de")
    page.evaluate("localStorage.setItem('i18nextLng', 'en')")


def hostile_pages() -> list[str]:
    from urllib.parse import quote

    model, entity = quote(HOSTILE_MODEL, safe=""), quote(HOSTILE, safe="")
    return [
        PAGE,
        f"{PAGE}?view=model&model={model}",
        f"{PAGE}?view=cycle&cycle=fleet&at={AT}",
        f"{PAGE}?view=findings&model={model}&version=1&at={AT}",
        f"{PAGE}?view=findings&model={model}&version=2&at={AT}",
        f"{PAGE}?view=entity&entity={entity}&cycle=fleet",
        f"{PAGE}?view=compare&first={model}@1&second={model}@2",
        f"{PAGE}?view={entity}&model={entity}",
    ]


def test_hostile_text_runs_nothing_and_breaks_out_of_nothing(site: Site) -> None:
    context = site.context()
    context.add_init_script(
        "window.violations = [];"
        "addEventListener('securitypolicyviolation', e => violations.push(e.violatedDirective))"
    )

    def with_policy(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, "content-security-policy": CSP})

    context.route(
        lambda url: url.startswith(site.url("plugin")),
        lambda route: with_policy(route) if route.request.resource_type == "document" else route.continue_(),
    )
    shown = 0
    for path in hostile_pages():
        page, errors = open_page(context, site.url(path))
        assert errors == [], path
        assert page.evaluate("[window.hacked ?? null, violations]") == [None, []], path
        assert page.locator("[data-detection] script, [data-detection] [onerror]").count() == 0, path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        shown += (
            page.get_by_text(HOSTILE_MODEL).count() + page.get_by_text("<script>alert(1)</script>").count()
        )
        assert "\u202e" not in (page.locator("[data-detection]").inner_text()), path
    assert shown > len(hostile_pages())
    context.close()


def event(site: Site, model_id: str = "identity_collision") -> dict[str, Any]:
    found = site.instance.call("GET", f"detection/api/events?status=OPEN&model_id={model_id}")
    first: dict[str, Any] = found["items"][0]
    return first


def test_an_event_is_acknowledged_on_the_page_and_a_viewer_has_no_button(
    site: Site, light: BrowserContext
) -> None:
    chosen = event(site)
    path = f"{PAGE}?view=events&event={chosen['event_id']}"
    page, _ = open_page(light, site.url(path))
    page.get_by_role("button", name="Acknowledge").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill(HOSTILE)
    assert site.grave(page) == []
    dialog.get_by_role("button", name="Acknowledge").click()
    expect(dialog.get_by_text("Stored.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("Acknowledged")).to_be_visible()
    assert (
        site.instance.call("GET", f"detection/api/events/{chosen['event_id']}")["acknowledged_by"] == "root"
    )
    viewer = site.context("viewer")
    page, _ = open_page(viewer, site.url(path))
    expect(page.get_by_text(chosen["entity_id"]).first).to_be_visible()
    assert page.locator("[data-detection] button").filter(has_text="Close").count() == 0
    viewer.close()


def test_a_label_is_added_on_the_page_of_its_entity(site: Site, light: BrowserContext) -> None:
    page, _ = open_page(light, site.url(PAGES["entity"][0]))
    page.get_by_role("button", name="Add a label").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("The finding is right").click()
    dialog.get_by_label("Note").fill("two hulls seen")
    dialog.get_by_role("button", name="Add a label").click()
    expect(dialog.get_by_text("The label is stored.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("two hulls seen")).to_be_visible()


def test_a_promotion_is_asked_for_in_the_name_of_the_user(site: Site, light: BrowserContext) -> None:
    page, _ = open_page(light, site.url(f"{PAGE}?view=compare&first=ais_gap@1.0&second=ais_gap@2.0"))
    page.get_by_role("button", name="Ask for promotion").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("is paused")).to_be_visible()
    dialog.get_by_label("Reason").fill("Half the gaps are missed.")
    dialog.get_by_label("Hours to watch").fill("2")
    dialog.get_by_role("button", name="Ask for it").click()
    expect(dialog.get_by_role("link", name="Open the run")).to_be_visible()
    (run,) = site.instance.call("GET", "api/v2/dags/detection_promotion/dagRuns")["dag_runs"]
    assert run["conf"] == {"version": "ais_gap@2.0", "reason": "Half the gaps are missed.", "watch_hours": 2}
    assert run["triggering_user_name"] == "root"


class OtherPage(BaseHTTPRequestHandler):
    """A page on another port of the same host, to which the browser sends the cookie as well."""

    def __init__(self, target: str, *args: Any) -> None:
        self.target = target
        super().__init__(*args)

    def do_GET(self) -> None:
        script = (
            f"<form method=post action='{self.target}' enctype=text/plain>"
            "<input name='{\"reason\": \"' value='\"}'></form>"
            f"<script>fetch('{self.target}', {{method: 'POST', mode: 'no-cors', credentials: 'include',"
            " body: JSON.stringify({reason: 'forged'})}).then(() => document.title = 'sent')</script>"
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(script.encode())

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def test_a_page_on_another_port_of_the_host_changes_nothing_although_the_cookie_goes_along(
    site: Site, light: BrowserContext
) -> None:
    chosen = event(site, "spoofing")
    target = site.url(f"detection/api/events/{chosen['event_id']}/close")
    other = HTTPServer(("127.0.0.1", 0), partial(OtherPage, target))
    threading.Thread(target=other.serve_forever, daemon=True).start()
    try:
        page = light.new_page()  # of another site; the tests' own page stays where it is
        answers: list[int] = []
        page.on("response", lambda r: answers.append(r.status) if r.url == target else None)
        page.goto(f"http://127.0.0.1:{other.server_port}/")
        page.wait_for_function("document.title === 'sent'")
        page.evaluate("document.forms[0].submit()")
        page.wait_for_load_state("networkidle")
        page.close()
    finally:
        other.shutdown()
        other.server_close()
    assert answers == [403, 403], "without the cookie each would be 401"
    assert site.instance.call("GET", f"detection/api/events/{chosen['event_id']}")["status"] == "OPEN"


def test_a_banner_above_every_page_names_a_champion_in_trouble(site: Site, light: BrowserContext) -> None:
    conn, next_cycle = site.instance.airflow.registry, LAST + timedelta(minutes=5)
    since = LAST - timedelta(days=1)
    sample_registry.put_cycle(conn, cycle_id="wreck", start_date=since)
    sample_registry.put_model(conn, "sunk", cycle_id="wreck", entrypoint="tests.ui.page_models:Fixed")
    sample_registry.put_version(conn, "sunk@1", Role.PRIMARY, since=since, fail="the chart is missing")
    run_cycle(site.instance.db, "wreck", next_cycle)
    conn.execute("update detection.detection_cycles set is_enabled = false where cycle_id <> 'wreck'")
    page, _ = open_page(light, site.url(""))
    assert page.get_by_text("A champion is in trouble").count() == 0, "no report has told so yet"
    hourly(site.instance.db, sections(), at=LAST + timedelta(hours=1))
    for path in ("", "dags", PAGE):
        page, _ = open_page(light, site.url(path))
        expect(page.get_by_text("A champion is in trouble")).to_be_visible()
        expect(page.get_by_text("sunk@1").first).to_be_visible()
        assert site.grave(page) == []
    page.get_by_role("link", name="sunk@1").first.click()
    expect(page.get_by_text("the chart is missing").first).to_be_visible()
