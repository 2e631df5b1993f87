"""The pages of the reference that are made of the product itself, so that they cannot lag behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMMENTS = """
select c.relname as name, c.relkind in ('v', 'm') as is_view, obj_description(c.oid) as comment
  from pg_class c
 where c.relnamespace = 'detection'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
   and not c.relispartition
 order by c.relkind in ('v', 'm') desc, c.relname
"""
COLUMNS = """
select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as is_required,
       col_description(a.attrelid, a.attnum) as comment
  from pg_attribute a
 where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum
"""


def write(folder: Path) -> None:
    """Write the pages of commands, options and tables."""
    folder.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        text = "\n".join(page()) + "\n"
        path = folder / f"{name}.md"
        if (
            not path.exists() or path.read_text(encoding="utf-8") != text
        ):  # what is unchanged is not built again
            path.write_text(text, encoding="utf-8")


def commands() -> Iterator[str]:
    """Yield the page of `airflow detection ...`: the help of each command."""
    os.environ["COLUMNS"] = "100"
    from airflow.cli import cli_parser

    yield "# Commands\n"
    yield "The help of each command, as `airflow detection ... --help` prints it. Each reaches the registry"
    yield "by the connection that `[detection] conn_id` names. One that fails says why, and exits with 1."
    parser = cli_parser.get_parser()
    for path in leaves():
        yield f"\n## {' '.join(path)}\n\n```text"
        yield subparser(parser, ("detection", *path)).format_help().rstrip()
        yield "```"


def leaves() -> list[tuple[str, ...]]:
    """Return the commands below `airflow detection`, as words."""
    from airflow.cli.cli_config import GroupCommand

    from airflow_detection.cli.definition import get_commands

    def below(found: Any, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:  # Any: commands or groups
        for one in found:
            if isinstance(one, GroupCommand):
                yield from below(one.subcommands, (*above, one.name))
            else:
                yield (*above, one.name)

    (group,) = get_commands()
    return list(below(group.subcommands, ()))


def subparser(parser: Any, words: tuple[str, ...]) -> Any:  # Any: argparse's parsers, as Airflow has them
    """Return the parser of a command.

    Raises:
        KeyError: there is no such command.
    """
    import argparse

    for word in words:
        choices = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
        parser = choices[word]
    return parser


def configuration() -> Iterator[str]:
    """Yield the page of the section `[detection]`, from what the provider tells Airflow."""
    from airflow_detection.provider_info import get_provider_info

    yield "# Configuration\n"
    yield "The section `[detection]` of `airflow.cfg`. An environment variable goes before it."
    yield "`airflow config list --section detection` shows what holds where it is called."
    for name, option in get_provider_info()["config"]["detection"]["options"].items():
        yield f"\n## {name}\n"
        yield f"{option['description'].replace('``', '`')}\n"
        yield "| type | default | environment | since |\n|---|---|---|---|"
        default = f"`{option['default']}`" if option["default"] not in (None, "") else "none"
        variable = f"`AIRFLOW__DETECTION__{name.upper()}`"
        yield f"| {option['type']} | {default} | {variable} | {option['version_added']} |"
        if option["example"]:
            yield f"\nExample: `{option['example']}`"


def tables() -> Iterator[str]:
    """Yield the page of tables and views, from the comments in a migrated database."""
    from psycopg.rows import dict_row
    from tests.postgres import postgres

    from airflow_detection.store.connection import connect
    from airflow_detection.store.database import Database
    from airflow_detection.store.migrations import migrate, packs

    yield "# Tables and views\n"
    yield "All are in the schema that `[detection] schema` names. Views have labels in place of keys: they"
    yield "are for people. Write to a table through commands and hook only, unless a page says otherwise."
    with postgres("DETECTION_TEST_DSN", is_durable=False) as server, connect(server) as conn:
        conn.execute("drop database if exists detection_docs with (force)")
        conn.execute("create database detection_docs")
        with connect(server.replace("/postgres?", "/detection_docs?")) as made:
            migrate(Database(made), packs=packs())
            cursor = made.cursor(row_factory=dict_row)
            for relation in cursor.execute(COMMENTS).fetchall():
                yield f"\n## {relation['name']}\n"
                yield f"{'View: ' if relation['is_view'] else ''}{relation['comment']}\n"
                yield "| column | type | |\n|---|---|---|"
                for column in cursor.execute(COLUMNS, [f"detection.{relation['name']}"]).fetchall():
                    null = "" if column["is_required"] or relation["is_view"] else ", may be null"
                    said = (column["comment"] or "").replace("|", "\\|")
                    yield f"| `{column['name']}` | {column['type']}{null} | {said} |"
        conn.execute("drop database detection_docs with (force)")


PAGES = {"commands": commands, "configuration": configuration, "tables": tables}
"""The pages by the names of their files."""
