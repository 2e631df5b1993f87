"""Series as inline SVG, drawn by matplotlib; its colours are CSS variables of the page."""

from __future__ import annotations

import io
import re
from datetime import datetime
from importlib.util import find_spec
from typing import Any

from airflow_detection.snapshot.rendering import formats
from airflow_detection.snapshot.report import Kind, Series

INK, GRID = "#010203", "#010204"
LINES = ("#010211", "#010212", "#010213", "#010214", "#010215", "#010216")
_VARIABLES = {INK: "var(--muted)", GRID: "var(--line)"} | {c: f"var(--c{n})" for n, c in enumerate(LINES, 1)}
WIDTH_IN, HEIGHT_IN = 10.8, 2.2


def can_plot() -> bool:
    """Tell whether the extra `report` is installed."""
    return find_spec("matplotlib") is not None


def svg(series: Series) -> str:
    """Return the plot as an `<svg>` element: equal series give equal text."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": series.title, "font.size": 9}):
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        _draw(axes, series)
        _style_axes(axes, series)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _themed(out.getvalue())


def _draw(axes: Any, series: Series) -> None:  # Any: matplotlib's axes
    at: list[Any] = [float(t) if series.counts else datetime.fromisoformat(t) for t in series.at]
    width = 0.8 * (at[1] - at[0]).total_seconds() / 86_400 if series.is_bars and len(at) > 1 else 0.03
    below = [0.0] * len(at)
    for number, line in enumerate(series.lines):
        values = [float("nan") if v is None else float(v) for v in line.values]
        colour = LINES[(line.hue - 1 if line.hue else number) % len(LINES)]
        if series.is_bars:
            axes.bar(
                at,
                values,
                width=width,
                bottom=below,
                color=colour,
                label=_escaped(line.label),
                align="edge",
            )
            below = [b + (0.0 if v != v else v) for b, v in zip(below, values, strict=True)]
        else:
            axes.plot(
                at,
                values,
                color=colour,
                linewidth=1.6,
                label=_escaped(line.label),
                solid_capstyle="round",
            )
            if len(series.lines) == 1:
                axes.fill_between(at, values, color=colour, alpha=0.13, linewidth=0)


def _style_axes(axes: Any, series: Series) -> None:  # Any: matplotlib's axes
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if series.counts:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: formats.text(Kind.COUNT, v)))
    else:
        locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]  # has no types
        axes.xaxis.set_major_locator(locator)
        short = ConciseDateFormatter(locator, show_offset=False)  # type: ignore[no-untyped-call]  # as above
        axes.xaxis.set_major_formatter(short)
    if series.is_logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axes.minorticks_off()
    else:
        is_count = series.kind is Kind.COUNT
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=is_count))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: formats.text(series.kind, v)))
        axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(GRID)
    axes.tick_params(colors=INK, length=0)
    axes.tick_params(axis="x", pad=6)
    if len(series.lines) > 1:
        axes.legend(frameon=False, labelcolor=INK, ncols=6, loc="lower left", bbox_to_anchor=(0, 1),
                    borderaxespad=0, handlelength=1.2, columnspacing=1.4)  # fmt: skip


def _escaped(label: str) -> str:
    """Return a label that matplotlib neither hides nor takes for mathematics."""
    return " " + label.replace("$", r"\$")


def _themed(text: str) -> str:
    """Return the `<svg>` element alone, in the page's colours and font, without a size of its own."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    text = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font: \1px var(--sans)", text)
    return re.sub(
        r'(<svg [^>]*?)width="[^"]*"',
        r"\1",
        re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", text, count=1),
        count=1,
    )
