"""Draw docs/layers.svg from the layers contract in pyproject.toml: `python docs/layers.py`.

Each band is a layer, each box a room or a module of the root. Imports point down.
"""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = CHECKOUT / "provider" / "airflow_detection"
PICTURE = CHECKOUT / "docs" / "layers.svg"
WIDTH, BAND, GAP, BOX_HEIGHT = 960, 64, 8, 44
STYLE = """
  text { font: 15px system-ui, sans-serif; fill: #1f2933 }
  .purpose { font-size: 11.5px; fill: #52606d }
  .band { fill: #eef2f6 }
  .box { fill: #ffffff; stroke: #9aa5b1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4e7eb }
    .purpose { fill: #9aa5b1 }
    .band { fill: #1f2933 }
    .box { fill: #323f4b; stroke: #7b8794 }
  }
"""
PURPOSES = {
    "cli": "commands of `airflow detection`",
    "pytest_plugin": "fixtures for tests of models",
    "testing": "a model on rows, without Airflow",
    "plugin": "pages, and imports ahead of the fork",
    "provider_info": "for Airflow: what is here",
    "ui": "the pages in Airflow's UI: their API, and who may see what",
    "dags": "generated Dags",
    "sensors": "what other Dags wait for",
    "operators": "tasks: context in, one call",
    "plan_cache": "last known good plan on this machine",
    "hooks": "Airflow connection to a session",
    "config": "the [detection] section",
    "triggers": "waiting in the triggerer",
    "promotion": "evidence judged, promotions watched",
    "cycle": "one cycle: plan, versions, close; no Airflow",
    "registration": "YAML file to the registry",
    "snapshot": "reports and verdicts",
    "adapters": "models of other libraries",
    "maritime": "reference models on AIS",
    "engine": "models core; standard library",
    "store": "SQL and psycopg",
    "evidence": "figures of two versions, and the gate before a promotion; pure",
    "domain": "values; standard library",
    "errors": "every error",
}


def layers() -> list[list[str]]:
    """The layers of the contract, from the top down, each with its rooms from left to right."""
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    contract = next(c for c in contracts if c["type"] == "layers" and c["containers"] == [PACKAGE.name])
    return [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]


def draw() -> str:
    """The picture as SVG."""
    bands = layers()
    height = len(bands) * (BAND + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<style>{STYLE}</style>",
    ]
    for number, rooms in enumerate(bands):
        top = GAP + number * (BAND + GAP)
        parts.append(f'<rect class="band" x="0" y="{top}" width="{WIDTH}" height="{BAND}" rx="6"/>')
        width = (WIDTH - GAP * (len(rooms) + 1)) / len(rooms)
        for column, room in enumerate(rooms):
            left = GAP + column * (width + GAP)
            box = f'x="{left:.1f}" y="{top + 10}" width="{width:.1f}" height="{BOX_HEIGHT}" rx="4"'
            parts += [
                f'<rect class="box" {box}/>',
                f'<text x="{left + 12:.1f}" y="{top + 29}">{escape(room)}</text>',
                f'<text class="purpose" x="{left + 12:.1f}" y="{top + 46}">{escape(PURPOSES[room])}</text>',
            ]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw())
