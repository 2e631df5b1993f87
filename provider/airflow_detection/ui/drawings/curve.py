"""The picture of a promotion's evidence: E after each label that decides, and the bound where it passes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from airflow_detection.domain.svg import picture, plain

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 240, 64, 16, 30, 34
MAX_LOG10 = 12.0
"""E is drawn up to here: far beyond any bound, and lower values can still be seen."""


def draw_curve(curve: Sequence[tuple[int, float]], alpha: float) -> str:
    """Return the picture of a curve of (labels, log10 E)."""
    bound = -math.log10(alpha)
    values = [max(-MAX_LOG10, min(MAX_LOG10, value)) for _, value in curve]
    low, high = min([0.0, *values]), max([bound, *values]) + 0.3
    last = max([1, *(n for n, _ in curve)])

    def x(n: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * n / last

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    points = " ".join(f"{x(n):.1f},{y(v):.1f}" for (n, _), v in zip(curve, values, strict=True))
    end = f"E = {10 ** values[-1]:.3g} after {curve[-1][0]:,} labels" if curve else "no label decides"
    counted = f"{last:,} labels on which one of the two was right"
    parts = [
        f'<text x="{LEFT}" y="18">{plain(end)}</text>',
        _level(y(0.0), "1"),
        f'<line class="bound" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(bound):.1f}" y2="{y(bound):.1f}"/>',
        f'<text class="muted" x="{LEFT - 8}" y="{y(bound) + 4:.1f}" text-anchor="end">{1 / alpha:g}</text>',
        f'<polyline class="accent" stroke-width="2" points="{points}"/>',
        f'<text class="muted" x="{LEFT}" y="{HEIGHT - 10}">0</text>',
        f'<text class="muted" x="{WIDTH - RIGHT}" y="{HEIGHT - 10}" text-anchor="end">{counted}</text>',
        f'<text class="muted" x="8" y="{TOP + 8}">E</text>',
    ]
    return picture(WIDTH, HEIGHT, f"{end}; it passes at {1 / alpha:g}", parts)


def _level(at: float, text: str) -> str:
    return (
        f'<line class="line" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        f'<text class="muted" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{text}</text>'
    )
