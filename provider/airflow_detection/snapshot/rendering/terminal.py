"""A stored report in a terminal: in colour where it can, with fewer columns where it is narrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table as RichTable
from rich.text import Text

from airflow_detection.domain.text import visible_lines
from airflow_detection.snapshot.rendering import formats
from airflow_detection.snapshot.rendering.formats import NUMERIC, tone
from airflow_detection.snapshot.report import Kind, Report, Section, Status, Table, from_json

STYLES = {
    Status.OK: "green",
    Status.ATTENTION: "yellow",
    Status.BAD: "bold red",
    Status.NOT_COMPUTED: "magenta",
}
TONES = {"ok": "green", "attention": "yellow", "bad": "bold red"}
MARKS = {"ok": "·", "attention": "□", "bad": "■"}  # they differ without colours, too
BLOCKS = "▁▂▃▄▅▆▇█"
NARROW, MEDIUM = 84, 140


def print_report(stored: Mapping[str, Any], console: Console) -> None:  # Any: JSON values
    """Print a stored report; control characters in its texts, which hold what a feed sent, as escapes.

    Raises:
        UnknownFormat: the report has a format that this version of the package cannot read.
    """
    report = from_json(_visible(stored))
    console.print(_head(report))
    for section in report.sections:
        console.print(Group(*_section(section, console.width)))
    console.print(
        Text(f"taken {formats.instant(report.taken_at)} UTC, format {report.format_version}", "dim")
    )


def _visible(value: Any) -> Any:  # Any: JSON values
    match value:
        case str():
            return visible_lines(value)
        case Mapping():
            return {key: _visible(item) for key, item in value.items()}
        case list() | tuple():
            return [_visible(item) for item in value]
    return value


def _head(report: Report) -> RenderableType:
    lines = [Text(report.headline, "bold")]
    for m in report.missed:
        span = formats.period(m.start, m.end)
        lines.append(Text(f"no report was taken for {span} ({m.hours} h)", STYLES[Status.ATTENTION]))
    title = f"{report.kind} report, {formats.period(report.start, report.end)}"
    return Panel(Group(*lines), title=Text(title), border_style=STYLES[report.status])


def _section(section: Section, width: int) -> Iterator[RenderableType]:
    style = STYLES[section.status]
    yield Rule(
        Text.assemble((section.title, "bold"), "  ", (section.status.value, style)), align="left", style=style
    )
    if section.why:
        yield Text(section.why, style)
    if section.summary:
        yield Text(section.summary)
    if section.facts:
        yield Text("  ".join(f"{f.label} {formats.text(f.kind, f.value)}" for f in section.facts), "dim")
    for number, table in enumerate(section.tables):
        if number:
            yield Text("")
        yield _table(table, width)
        if table.left_out:
            yield Text(f"and {table.left_out:,} more", "dim")
        if table.note:
            yield Text(table.note, "dim")
    yield Text("")


def _table(table: Table, width: int) -> RenderableType:
    if not table.rows:
        return Text(f"{table.title}: {table.empty}" if table.title else table.empty, "dim")
    max_weight = 1 if width < NARROW else 2 if width < MEDIUM else 3
    shown = [n for n, c in enumerate(table.columns) if c.weight <= max_weight]
    rendered = RichTable(
        title=Text(table.title) if table.title else None, title_justify="left", box=None, pad_edge=False
    )
    for n in shown:
        column = table.columns[n]
        rendered.add_column(
            Text(column.label), justify="right" if column.kind in NUMERIC else "left", overflow="fold"
        )
    for number, row in enumerate(table.rows):
        mark = table.marks[number] if table.marks else None
        rendered.add_row(
            *(_cell(table.columns[n].kind, row[n]) for n in shown), style=STYLES[mark] if mark else None
        )
    return rendered


def _cell(kind: Kind, value: Any) -> Text:  # Any: a cell of a table
    if kind is Kind.STRIP:
        tones = [tone(v) for v in value or ()]
        return Text.assemble(*((MARKS[t], TONES[t]) for t in tones))
    if kind is Kind.SPARK:
        numbers = [v for v in value or () if v is not None]
        top = max(numbers, default=0) or 1
        marks = (" " if v is None else BLOCKS[round(v / top * (len(BLOCKS) - 1))] for v in value or ())
        return Text("".join(marks))
    if kind is Kind.VERDICT and value:
        return Text(str(value), TONES[tone(str(value))])
    return Text(formats.text(kind, value))
