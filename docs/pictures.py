"""Take the pictures of docs/pictures: each page of the UI, light and dark, with the demo's models.

Run it from the checkout: `python docs/pictures.py [NAME ...]`. It needs Chromium, and takes some minutes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.e2e.browser import chromium, open_page, signed_in  # noqa: E402
from tests.e2e.pages_instance import PagesInstance, pages_instance  # noqa: E402
from tests.e2e.test_pages import PAGES  # noqa: E402
from tests.postgres import postgres  # noqa: E402

FOLDER = ROOT / "docs" / "pictures"
CYCLES = 3
WIDTH, LEAST, MOST = 1200, 620, 1500
COLOURS = 128


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


def compress(file: Path) -> None:
    """Reduce a picture to few colours."""
    from PIL import Image

    with Image.open(file) as image:
        reduced = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    reduced.save(file, optimize=True)


def main() -> None:
    """Take all pictures, or those that are named."""
    names = sys.argv[1:] or [name for name in PAGES if name not in ("reports", "dag")]
    with (
        tempfile.TemporaryDirectory(prefix="detection-pictures-") as folder,
        postgres("DETECTION_TEST_DSN", is_durable=False) as server,
    ):
        Path(folder).chmod(0o755)
        with pages_instance(Path(folder), server, cycles=CYCLES, is_hostile=False) as instance:
            take(instance, names)


if __name__ == "__main__":
    main()
