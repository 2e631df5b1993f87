"""A stored report as one HTML file: it loads nothing from elsewhere, and every text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from airflow_detection.snapshot.rendering import formats, plots
from airflow_detection.snapshot.rendering.formats import NUMERIC, tone
from airflow_detection.snapshot.report import Kind, Report, Series, Status, UnknownFormat, from_json

SPARK_W, SPARK_H = 110.0, 22.0
MAX_CHARS = {Kind.INSTANT: 32, Kind.CODE: 32, Kind.TEXT: 12}
"""Length up to which a cell is kept on one line, by its kind; other kinds never are."""
MAX_WIDE_MARKS = 24


def render_html(stored: Mapping[str, Any], *, address: str | None = None) -> str:  # Any: JSON values
    """Return the page of a stored report: the same JSON gives the same text.

    A report in a format that this version cannot read gives a page with that error.

    Args:
        address: of what the report is about in Airflow's UI, http or https; None leaves the link out.
    """
    try:
        report = from_json(stored)
    except UnknownFormat as error:
        return str(
            _template("unknown.html").render(
                error=str(error),
                start=stored.get("start"),
                end=stored.get("end"),
                taken_at=stored.get("taken_at"),
            )
        )
    return str(_template("report.html").render(report=report, address=address, **_context(report)))


def _context(report: Report) -> dict[str, Any]:  # Any: values of the template
    return {
        "period": formats.period(report.start, report.end),
        "Kind": Kind,
        "Status": Status,
        "has_plots": plots.can_plot(),
    }


@lru_cache(maxsize=2)
def _template(name: str) -> Any:  # Any: a jinja2 template
    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"instant": formats.instant, "sentence": formats.sentence}
    env.globals |= {
        "text": formats.text,
        "cell": cell,
        "plot": plot,
        "tone": tone,
        "is_numeric": lambda k: k in NUMERIC,
        "is_short": is_short,
        "slug": lambda s: "".join(c if c.isalnum() else "-" for c in s.lower()),
    }
    return env.get_template(name)


def is_short(kind: Kind, value: Any) -> bool:  # Any: a cell of a table
    """Tell whether a cell is kept on one line: instants, and short names and texts."""
    return isinstance(value, str) and len(value) <= MAX_CHARS.get(kind, 0)


def cell(kind: Kind, value: Any) -> Markup:  # Any: a cell of a table
    """Return the content of a cell."""
    if kind is Kind.SPARK:
        return _spark(value or ())
    if kind is Kind.STRIP:
        marks = Markup("").join(
            Markup('<i class="{}" title="{}"></i>').format(tone(v), v) for v in value or ()
        )
        label = ", ".join(f"{n} {v}" for v, n in _counts(value or ()))
        many = " many" if len(value or ()) > MAX_WIDE_MARKS else ""
        return Markup('<span class="strip{}" role="img" aria-label="{}">{}</span>').format(many, label, marks)
    if kind is Kind.VERDICT and value:
        return Markup('<span class="badge {}">{}</span>').format(tone(value), value.replace("_", " "))
    content = formats.text(kind, value)
    if kind is Kind.CODE and value:
        return Markup("<code>{}</code>").format(content)
    return escape(content)


def _counts(values: Sequence[str]) -> list[tuple[str, int]]:
    return [(v, list(values).count(v)) for v in dict.fromkeys(values)]


def _spark(values: Sequence[float | None]) -> Markup:
    numbers = [v for v in values if v is not None]
    if not numbers:
        return Markup('<span class="none">{}</span>').format(formats.NONE)
    top = max(numbers) or 1.0
    step = SPARK_W / max(1, len(values) - 1)
    points = [
        (n * step, SPARK_H - 3 - (SPARK_H - 6) * v / top) for n, v in enumerate(values) if v is not None
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="from {} to {}"><polyline points="{}"/>'
        '<circle cx="{}" cy="{}" r="2.4"/></svg>'
    ).format(
        SPARK_W + 4,
        SPARK_H,
        formats.text(Kind.SHARE, numbers[0]),
        formats.text(Kind.SHARE, numbers[-1]),
        line,
        f"{x:.1f}",
        f"{y:.1f}",
    )


def plot(series: Series) -> Markup:
    """Return the plot of a series as SVG; matplotlib escapes its labels."""
    return Markup(plots.svg(series))  # noqa: S704 - see the docstring
