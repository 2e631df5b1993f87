"""Draw a lineage event as SVG: what was read, the run with its versions, what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

COLUMN, GAP, LINE, PAD, HEAD = 400, 56, 19, 14, 30
WIDTH = 3 * COLUMN + 2 * GAP
SHORT = 12
"""Digits that are shown of a digest."""
STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1f2933 }
  .head { font-size: 12.5px; fill: #52606d }
  .small { font-size: 12px; fill: #52606d }
  .box { fill: #ffffff; stroke: #9aa5b1 }
  .run { fill: #eef2f6; stroke: #52606d }
  .edge { fill: none; stroke: #7b8794; stroke-width: 1.5 }
  .tip { fill: #7b8794 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4e7eb }
    .head, .small { fill: #9aa5b1 }
    .box { fill: #323f4b; stroke: #7b8794 }
    .run { fill: #1f2933; stroke: #9aa5b1 }
  }
"""
Lines = Sequence[tuple[str, str]]
"""Class and text of each line of a box."""
Json = Mapping[str, Any]  # Any: JSON


def _dataset(dataset: Json) -> Lines:
    statistics = dataset.get("outputFacets", {}).get("outputStatistics")
    rows = [("small", f"outputStatistics: {statistics['rowCount']:,} rows")] if statistics else []
    return [("", dataset["name"]), ("small", dataset["namespace"]), *rows]


def _run(event: Json) -> Lines:
    facet = event["run"]["facets"]["detection_versions"]
    lines = [("", event["job"]["name"]), ("small", f"{event['eventType']}, cycle {facet['cycleStartedAt']}")]
    for version in facet["versions"]:
        lines += [
            ("", f"{version['model']}@{version['version']}"),
            ("small", f"{version['role']}, {version['outcome']}"),
            ("small", f"inputCount {version['inputCount']:,}, outputCount {version['outputCount']:,}"),
        ]
        digests = [name for name in ("paramsSha256", "artifactSha256") if name in version]
        lines += [("small", f"{name} {version[name][:SHORT]}…") for name in digests]
    return lines


def _box(lines: Lines, kind: str, left: float, top: float) -> list[str]:
    parts = [f'<rect class="{kind}" x="{left}" y="{top}" width="{COLUMN}" height="{_height(lines)}" rx="6"/>']
    for number, (style, text) in enumerate(lines):
        y = top + PAD + 12 + number * LINE
        parts.append(f'<text class="{style}" x="{left + PAD}" y="{y}">{escape(text)}</text>')
    return parts


def _height(lines: Lines) -> int:
    return len(lines) * LINE + 2 * PAD - 6


def draw(event: Json) -> str:
    """Return the picture of an event that ended a run of versions."""
    columns = [
        ("inputs", "box", [_dataset(d) for d in event["inputs"]]),
        ("run", "run", [_run(event)]),
        ("outputs", "box", [_dataset(d) for d in event["outputs"]]),
    ]
    heights = [sum(_height(b) for b in boxes) + PAD * (len(boxes) - 1) for _, _, boxes in columns]
    height = HEAD + max(heights) + 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 0 {WIDTH + 2} {height}" role="img">',
        f"<style>{STYLE}</style>",
    ]
    middle = HEAD + max(heights) / 2
    for number, ((head, kind, boxes), total) in enumerate(zip(columns, heights, strict=True)):
        left, top = number * (COLUMN + GAP), HEAD + (max(heights) - total) / 2
        parts.append(f'<text class="head" x="{left}" y="18">{head}</text>')
        for lines in boxes:
            y = top + _height(lines) / 2
            if number != 1:
                start, end = (left + COLUMN, y), (left + COLUMN + GAP, middle)
                if number == 2:
                    start, end = (left - GAP, middle), (left, y)
                parts += _arrow(*start, *end)
            parts += _box(lines, kind, left, top)
            top += _height(lines) + PAD
    return "\n".join([*parts, "</svg>", ""])


def _arrow(x: float, y: float, to_x: float, to_y: float) -> list[str]:
    bend = (x + to_x) / 2
    return [
        f'<path class="edge" d="M{x},{y} C{bend},{y} {bend},{to_y} {to_x - 8},{to_y}"/>',
        f'<path class="tip" d="M{to_x},{to_y} l-9,-4 v8 z"/>',
    ]
