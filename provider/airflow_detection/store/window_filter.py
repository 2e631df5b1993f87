"""Proof that a query over a stretch of time holds the rows of each window in it, by the plan of Postgres."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from airflow_detection.domain.specs import Window
from airflow_detection.store.queries import named

_ROW_BY_ROW = frozenset({
    "Append", "Bitmap Heap Scan", "Bitmap Index Scan", "BitmapAnd", "BitmapOr", "Gather", "Gather Merge",
    "Incremental Sort", "Index Only Scan", "Index Scan", "Merge Append", "Seq Scan", "Sort",
})  # fmt: skip
"""Nodes that give, or leave out, each row whatever the others are."""

_TABLE_SCANS = frozenset({"Bitmap Heap Scan", "Index Only Scan", "Index Scan", "Seq Scan"})
_CONDITIONS = ("Index Cond", "Filter")
_COLUMN = r"(?:[^\s.()]+\.)?(?P<column>[^\s.()]+)"
_INSTANTS = re.compile(rf"{_COLUMN}$")
_SECONDS = re.compile(rf"\(EXTRACT\(epoch FROM {_COLUMN}\)\)::double precision$")
_BOUND = re.compile(rf"{_COLUMN} (?P<operator><=?|>=?) '(?P<instant>[^']+)'::timestamp with time zone$")

Node = dict[str, Any]  # Any: a node of a plan in JSON


def is_window_of(sql: str, plan: Node, names: Sequence[str], time_key: str, window: Window) -> bool:
    """Tell whether a query's plan proves that it gives the rows, and all rows, whose time is in its window.

    That is so where the query names each end of the window once, judges each row by itself, and compares with
    both ends the one column that `time_key` is, or whose seconds since 1970 it is. Then the rows of a window
    are those of a longer one whose time is in it, in the same order where the query orders them.

    Args:
        plan: of the query with the ends of `window`, by `explain (verbose, format json)`.
        names: the query's columns.
        time_key: the one that holds each row's time.
    """
    text = named(sql)
    ends = text.count("%(window_end)s") + text.count("%(cycle_started_at)s")
    if text.count("%(window_start)s") != 1 or ends != 1 or "order by" not in text.lower():
        return False
    output = _bare(plan["Output"][names.index(time_key)])
    found = _INSTANTS.match(output) or _SECONDS.match(output)
    nodes = list(_nodes(plan))
    if found is None or any(n["Node Type"] not in _ROW_BY_ROW or "Subplan Name" in n for n in nodes):
        return False
    scans = [node for node in nodes if node["Node Type"] in _TABLE_SCANS]
    return bool(scans) and all(_is_within(scan, found["column"], window) for scan in scans)


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _is_within(scan: Node, column: str, window: Window) -> bool:
    """Tell whether a scan of a table takes the rows in [start, end) of the column, and those alone."""
    operators: dict[datetime, list[str]] = {window.start: [], window.end: []}
    for text in (node[key] for node in _nodes(scan) for key in _CONDITIONS if key in node):
        for condition in _conjuncts(_bare(text)):
            bound = _BOUND.match(_bare(condition))
            if bound is None or (at := _instant(bound["instant"])) not in operators:
                continue
            operators[at].append(bound["operator"] if bound["column"] == column else bound["column"])
    return operators == {window.start: [">="], window.end: ["<"]}


def _instant(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else None


def _bare(text: str) -> str:
    """Return an expression without the parentheses around the whole of it."""
    while text.startswith("(") and _closing(text) == len(text) - 1:
        text = text[1:-1]
    return text


def _conjuncts(text: str) -> Iterator[str]:
    """Iterate over what an expression joins with AND."""
    depth, start, is_quoted = 0, 0, False
    for at, char in enumerate(text):
        if char == "'":
            is_quoted = not is_quoted
        elif not is_quoted:
            depth += (char == "(") - (char == ")")
            if not depth and text.startswith(" AND ", at):
                yield text[start:at]
                start = at + len(" AND ")
    yield text[start:]


def _closing(text: str) -> int:
    """Return the index of the parenthesis that closes the one which the text begins with."""
    depth, is_quoted = 0, False
    for at, char in enumerate(text):
        if char == "'":
            is_quoted = not is_quoted
        elif not is_quoted:
            depth += (char == "(") - (char == ")")
            if not depth:
                return at
    return -1
