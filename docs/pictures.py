"""Take the pictures of docs/pictures: pages of the UI and the form of a connection, light and dark, and a
lineage event. The data are the demo's.

Run it from the checkout: `python docs/pictures.py [NAME ...]`. It needs Chromium, and takes some minutes.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from docs import lineage  # noqa: E402
from tests.e2e.browser import chromium, expect, open_page, signed_in  # noqa: E402
from tests.e2e.pages_instance import LAST, STEP, PagesInstance, pages_instance  # noqa: E402
from tests.e2e.test_pages import PAGES  # noqa: E402
from tests.postgres import postgres  # noqa: E402

FOLDER = ROOT / "docs" / "pictures"
CYCLES = 3
WIDTH, LEAST, MOST = 1200, 620, 1500
COLOURS = 128
FORM_HEIGHT = 1000
EVENT_OF = "detection_maritime.risk_score"


def take(instance: PagesInstance, names: list[str]) -> None:
    """Take the pictures of these pages."""
    FOLDER.mkdir(exist_ok=True)
    with chromium() as browser:
        for theme in ("light", "dark"):
            size = {"width": WIDTH, "height": LEAST}
            context = signed_in(
                browser, instance.address, instance.tokens["root"], color_scheme=theme, viewport=size
            )
            for name in names:
                page, errors = open_page(context, f"{instance.address}/{PAGES[name][0]}")
                if errors:
                    sys.exit(f"{name}: {errors[0]}")
                bottom = page.evaluate(
                    "Math.ceil(document.querySelector('[data-detection]').getBoundingClientRect().bottom)"
                )
                height = max(LEAST, min(bottom + 16, MOST))
                page.set_viewport_size({"width": WIDTH, "height": height})
                page.wait_for_timeout(500)
                file = FOLDER / f"{name}_{theme}.png"
                page.screenshot(path=file)
                compress(file)
                page.set_viewport_size(size)
            context.close()


def take_form(instance: PagesInstance) -> None:
    """Take the form of a new connection of type `detection`: Airflow's fields, and beside them its own."""
    with chromium() as browser:
        for theme in ("light", "dark"):
            context = signed_in(
                browser, instance.address, instance.tokens["root"], color_scheme=theme,
                viewport={"width": WIDTH, "height": FORM_HEIGHT},
            )  # fmt: skip
            page = context.new_page()
            page.goto(f"{instance.address}/connections")
            page.get_by_role("button", name="Add Connection").click()
            form = page.get_by_role("dialog")
            form.get_by_role("combobox").click()
            page.keyboard.type("Detection registry")
            page.keyboard.press("Enter")
            expect(form.get_by_text("Database", exact=True)).to_be_visible()
            page.wait_for_timeout(1000)
            halves = [form.screenshot()]
            form.get_by_role("button", name="Extra Fields", exact=True).click()
            page.wait_for_timeout(1000)
            halves.append(form.screenshot())
            beside(halves, FOLDER / f"connection_{theme}.png")
            context.close()


def beside(pictures: list[bytes], file: Path) -> None:
    """Put pictures side by side into one file."""
    from PIL import Image

    opened = [Image.open(io.BytesIO(picture)) for picture in pictures]
    size = sum(image.width for image in opened), max(image.height for image in opened)
    whole = Image.new("RGB", size, opened[0].convert("RGB").getpixel((opened[0].width // 2, 8)))
    left = 0
    for image in opened:
        whole.paste(image, (left, 0))
        left += image.width
    whole.save(file)
    compress(file)


def draw_event(instance: PagesInstance) -> None:
    """Run a cycle of the demo in Airflow, with a transport to a file, and draw what a champion told."""
    airflow = instance.airflow
    file = airflow.folder / "lineage.jsonl"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    airflow.env = {**airflow.env, "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}
    airflow.command("dags", "test", "detection_maritime", (LAST - CYCLES * STEP).isoformat())
    text = file.read_text().replace(f"127.0.0.1:{airflow.registry_proxy.port}", "db.example.org:5432")
    events = map(json.loads, text.replace(airflow.registry.info.dbname, "registry").splitlines())
    (event,) = (e for e in events if (e["job"]["name"], e["eventType"]) == (EVENT_OF, "COMPLETE"))
    (FOLDER / "lineage.svg").write_text(lineage.draw(event))


def compress(file: Path) -> None:
    """Reduce a picture to few colours."""
    from PIL import Image

    with Image.open(file) as image:
        reduced = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    reduced.save(file, optimize=True)


def main() -> None:
    """Take all pictures, or those that are named."""
    others: dict[str, Callable[[PagesInstance], None]] = {"connection": take_form, "lineage": draw_event}
    names = sys.argv[1:] or [*(name for name in PAGES if name not in ("reports", "dag")), *others]
    with (
        tempfile.TemporaryDirectory(prefix="detection-pictures-") as folder,
        postgres("DETECTION_TEST_DSN", is_durable=False) as server,
    ):
        Path(folder).chmod(0o755)
        with pages_instance(Path(folder), server, cycles=CYCLES, is_hostile=False) as instance:
            take(instance, [name for name in names if name in PAGES])
            for name in filter(others.__contains__, names):
                others[name](instance)


if __name__ == "__main__":
    main()
