"""SQL from files: named statements, one file per table, and `:name` parameters for people's own queries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from airflow_detection.domain.json_values import plain
from airflow_detection.errors import ConfigurationError

_NAME = re.compile(r"^-- name: *([a-z][a-z0-9_]*) *$", re.MULTILINE)
_TOKEN = re.compile(
    r"""
      (?P<verbatim>
        (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*'      # a string with escapes
      | '(?:[^']|'')*'
      | "(?:[^"]|"")*"
      | (?<![\w$])(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag)
      | --[^\n]*
      | ::
      )
    | (?P<comment>/\*)
    | :(?P<param>[A-Za-z_]\w*)
    | (?P<percent>%)
    """,
    re.VERBOSE | re.DOTALL,
)
_PARAM = re.compile(r"%\((\w+)\)s")
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def sql_root() -> Path:
    """Return the folder of migrations and queries: inside an installed package, at the root of a checkout."""
    here = Path(__file__).resolve()
    installed = here.parents[1] / "sql"
    return installed if installed.is_dir() else here.parents[3] / "sql"


def composed(text: str, schema: str) -> sql.Composed:
    """Fill `{schema}` into the text of one of our own files; braces in literals are doubled there."""
    return sql.SQL(text).format(schema=sql.Identifier(schema))


@lru_cache(maxsize=256)
def load_queries(table: str, schema: str) -> Mapping[str, sql.Composed]:
    """Return the statements of `sql/queries/<table>.sql` by name.

    Raises:
        ConfigurationError: there is no such file, or a name occurs twice in it.
    """
    if not table.isidentifier():  # a model names its projection
        raise ConfigurationError(f"{table!r} is not a name of a file of queries")
    path = sql_root() / "queries" / f"{table}.sql"
    try:
        parts = _NAME.split(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no file of queries for {table!r}") from error
    names, texts = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"a name occurs twice in {path.name}")
    pairs = zip(names, texts, strict=True)
    return MappingProxyType({name: composed(text.strip().rstrip(";"), schema) for name, text in pairs})


def named(sql_text: str) -> str:
    """Turn `:name` parameters into `%(name)s` and double every other `%`.

    Strings, quoted identifiers, comments and `::` casts are left as they are.
    """
    parts: list[str] = []
    at = 0
    for start, end, param in _tokens(sql_text, 0):
        parts.append(sql_text[at:start])
        parts.append(f"%({param})s" if param else sql_text[start:end].replace("%", "%%"))
        at = end
    return "".join([*parts, sql_text[at:]])


def place_of(sql_text: str, position: int, *, before: str = "") -> tuple[int, int] | None:
    """Return the line and the column, from 1, of somebody's query at which Postgres found a mistake.

    Args:
        sql_text: the query as it was written, with `:name` parameters.
        position: the character, from 1, of the statement that was sent: `before`, and the stripped query as
            `named` makes it, with its parameters as `$1`, `$2`.
        before: what was sent in front of it.

    None where the position lies outside of the query.
    """
    numbers: dict[str, int] = {}
    sent = position - 1  # characters that are still to be passed
    for part in _PARAM.split(before)[::2]:
        sent -= len(part)
    for name in _PARAM.findall(before):
        sent -= _width(name, numbers)
    at = len(sql_text) - len(sql_text.lstrip())
    for start, end, param in _tokens(sql_text, at):
        if sent < start - at:
            break
        width = _width(param, numbers) if param else end - start
        if sent < start - at + width:
            sent, at = (0, start) if param else (sent - (start - at), start)
            break
        sent, at = sent - (start - at) - width, end
    offset = at + sent
    if sent < 0 or offset > len(sql_text):
        return None
    return sql_text.count("\n", 0, offset) + 1, offset - sql_text.rfind("\n", 0, offset)


def refusal(error: psycopg.Error, sql_text: str, *, before: str = "") -> str:
    """Return why Postgres refused somebody's query, on one line, with the place (see `place_of`)."""
    diag = error.diag
    if diag.message_primary is None:
        return " ".join(str(error).split())
    place = None
    if diag.statement_position:
        place = place_of(sql_text, int(diag.statement_position), before=before)
    at = f" (line {place[0]}, column {place[1]} of the query)" if place else ""
    reasons = (diag.message_primary + at, diag.message_detail, diag.message_hint)
    return " ".join("; ".join(reason.rstrip(".") for reason in reasons if reason).split())


def _tokens(sql_text: str, at: int) -> Iterator[tuple[int, int, str | None]]:
    """Yield start, end and parameter of what `named` looks at."""
    while match := _TOKEN.search(sql_text, at):
        at = _comment_end(sql_text, match.end()) if match["comment"] else match.end()
        yield match.start(), at, match["param"]


def _width(name: str, numbers: dict[str, int]) -> int:
    """Return the length of a parameter as it is sent, such as that of `$12`."""
    return len(f"${numbers.setdefault(name, len(numbers) + 1)}")


def bindable(params: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON values, read-only, and times
    """Return params in the form that a statement takes: lists as arrays, objects as jsonb."""
    return {name: _bound(value) for name, value in params.items()}


def _bound(value: Any) -> Any:  # Any: as `bindable`
    if isinstance(value, Mapping):
        return Jsonb(plain(value))
    return [_bound(item) for item in value] if isinstance(value, (tuple, list)) else value


def _comment_end(text: str, at: int) -> int:
    """Return the index behind the block comment whose text starts at `at`; such comments nest."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, at):
        depth += 1 if edge.group() == "/*" else -1
        if not depth:
            return edge.end()
    return len(text)
