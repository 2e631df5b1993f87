"""The picture of a plan: models from left to right as they wait for each other, shadows below them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from airflow_detection.domain.svg import picture, plain
from airflow_detection.engine.plan import ExecutionPlan

MAX_BOXES = 400
"""Boxes beyond which nobody could read the picture."""
BOX_W, BOX_H, VERSION_H, GAP_X, GAP_Y, MARGIN = 190, 42, 24, 56, 18, 12
CHAR_W = 7.4
MAX_CHARS = 24


def draw_plan(plan: ExecutionPlan) -> str:
    """Return the picture of a plan; equal plans give equal text."""
    boxes = len(plan.topo_order) + sum(map(len, plan.shadows.values()))
    if boxes > MAX_BOXES:
        text = f"{len(plan.topo_order)} models with {boxes - len(plan.topo_order)} further versions"
        return picture(560, 40, text, [f'<text x="12" y="24">{text}: too many for a picture</text>'])
    columns = _columns(plan)
    places, height = _places(plan, columns)
    width = 2 * MARGIN + len(columns) * BOX_W + max(0, len(columns) - 1) * GAP_X
    parts = [_edge(places[up], places[down]) for up, down in plan.edges]
    for model_id, (x, y) in places.items():
        parts += _model(plan, model_id, x, y)
    if not plan.topo_order:
        parts = ['<text x="12" y="24">no model has a role</text>']
    return picture(max(width, 220), max(height, 40), f"plan of {len(plan.topo_order)} models", parts)


def _columns(plan: ExecutionPlan) -> list[list[str]]:
    numbers: dict[str, int] = {}
    for model_id in plan.topo_order:
        numbers[model_id] = max((numbers[up] + 1 for up in plan.upstreams(model_id)), default=0)
    columns: dict[int, list[str]] = defaultdict(list)
    for model_id, number in numbers.items():
        columns[number].append(model_id)
    return [columns[number] for number in sorted(columns)]


def _places(plan: ExecutionPlan, columns: list[list[str]]) -> tuple[Mapping[str, tuple[int, int]], int]:
    places, lowest = {}, 0
    for number, column in enumerate(columns):
        y = MARGIN
        for model_id in column:
            places[model_id] = (MARGIN + number * (BOX_W + GAP_X), y)
            y += BOX_H + VERSION_H * len(plan.shadows.get(model_id, ())) + GAP_Y
        lowest = max(lowest, y - GAP_Y + MARGIN)
    return places, lowest


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x0, y0 = start[0] + BOX_W, start[1] + BOX_H // 2
    x1, y1 = end[0], end[1] + BOX_H // 2
    middle = (x0 + x1) / 2
    return (
        f'<path class="line" d="M{x0} {y0}C{middle:.0f} {y0} {middle:.0f} {y1} {x1 - 5} {y1}"/>'
        f'<path class="line" d="M{x1 - 9} {y1 - 4}L{x1 - 1} {y1}L{x1 - 9} {y1 + 4}"/>'
    )


def _model(plan: ExecutionPlan, model_id: str, x: int, y: int) -> list[str]:
    champion = plan.primaries.get(model_id)
    below = champion.version if champion else "no champion"
    if not plan.is_enabled(model_id):
        below = f"{below}, switched off"
    kind = "box bad" if model_id in plan.broken or champion is None else "box"
    parts = [
        "<g>",
        f"<title>{plain(plan.broken.get(model_id) or model_id)}</title>",
        f'<rect class="{kind}" x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="6"/>',
        f'<text x="{x + 10}" y="{y + 18}">{_short(model_id)}</text>',
        f'<text class="muted" x="{x + 10}" y="{y + 34}">{_short(below, 30)}</text>',
        "</g>",
    ]
    for number, version in enumerate(plan.shadows.get(model_id, ())):
        top = y + BOX_H + number * VERSION_H
        size = f'width="{BOX_W - 12}" height="{VERSION_H - 4}"'
        text = _short(f"{version.version} {version.role.lower()}", 28)
        parts += [
            f"<g><title>{plain(version.label)}</title>",
            f'<rect class="shadow" x="{x + 12}" y="{top + 3}" {size} rx="4"/>',
            f'<text class="muted" x="{x + 20}" y="{top + 17}">{text}</text></g>',
        ]
    return parts


def _short(text: str, max_chars: int = MAX_CHARS) -> str:
    return plain(text if len(text) <= max_chars else f"{text[: max_chars - 1]}\u2026")
