"""A stored report as one HTML file: nothing is loaded from elsewhere, hostile text stays text."""

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
LONGEST_NAME, LONGEST_WORD = 32, 12
FEW_MARKS = 24


def render_html(held: Mapping[str, Any]) -> str:  # Any: JSON values
    """The page of a stored report: the same JSON gives the same text.

    A report in a format that is not known here gives a page that says so.
    """
    try:
        report = from_json(held)
    except UnknownFormat as error:
        return str(
            _template("unknown.html").render(
                error=str(error), start=held.get("start"), end=held.get("end"), taken_at=held.get("taken_at")
            )
        )
    return str(_template("report.html").render(report=report, **_words(report)))


def _words(report: Report) -> dict[str, Any]:  # Any: what the template is given
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
    """Whether a cell is kept on one line: instants, and names and words that leave room for others."""
    most = {Kind.INSTANT: LONGEST_NAME, Kind.CODE: LONGEST_NAME, Kind.TEXT: LONGEST_WORD}.get(kind, 0)
    return isinstance(value, str) and len(value) <= most


def cell(kind: Kind, value: Any) -> Markup:  # Any: a cell of a table
    """A cell's content."""
    if kind is Kind.SPARK:
        return _spark(value or ())
    if kind is Kind.STRIP:
        marks = Markup("").join(
            Markup('<i class="{}" title="{}"></i>').format(tone(v), v) for v in value or ()
        )
        words = ", ".join(f"{n} {v}" for v, n in _counted(value or ()))
        many = " many" if len(value or ()) > FEW_MARKS else ""
        return Markup('<span class="strip{}" role="img" aria-label="{}">{}</span>').format(many, words, marks)
    if kind is Kind.VERDICT and value:
        return Markup('<span class="badge {}">{}</span>').format(tone(value), value.replace("_", " "))
    said = formats.text(kind, value)
    if kind is Kind.CODE and value:
        return Markup("<code>{}</code>").format(said)
    return escape(said)


def _counted(values: Sequence[str]) -> list[tuple[str, int]]:
    return [(v, list(values).count(v)) for v in dict.fromkeys(values)]


def _spark(values: Sequence[float | None]) -> Markup:
    known = [v for v in values if v is not None]
    if not known:
        return Markup('<span class="none">{}</span>').format(formats.NONE)
    top = max(known) or 1.0
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
        formats.text(Kind.SHARE, known[0]),
        formats.text(Kind.SHARE, known[-1]),
        line,
        f"{x:.1f}",
        f"{y:.1f}",
    )


def plot(series: Series) -> Markup:
    """The plot of a series; its SVG is ours, its labels are escaped by matplotlib."""
    return Markup(plots.svg(series))  # noqa: S704 - as said
