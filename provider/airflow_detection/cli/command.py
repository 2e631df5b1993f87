"""Parts that the commands of `airflow detection` share: arguments, a connection, one line for each error."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import Arg

from airflow_detection.domain.text import visible, visible_lines
from airflow_detection.errors import DetectionError, StorageError

if TYPE_CHECKING:
    from airflow_detection.domain.settings import Settings
    from airflow_detection.store.database import Database

Arguments = argparse.Namespace
Command = Callable[[Arguments], None]


def instant(text: str) -> datetime:
    """Read an argument that is an instant; without a time zone it is UTC."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"{text!r} is not an instant such as 2026-01-31T00:00:00Z"
        raise argparse.ArgumentTypeError(message) from error
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def instant_or_now(text: str) -> datetime | str:
    """Read an argument that is an instant or the word now."""
    return NOW if text == NOW else instant(text)


def positive(text: str) -> int:
    """Read an argument that is a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def arg(*flags: str, **options: Any) -> Arg:  # Any: what argparse takes
    """Describe one argument, as argparse has it."""
    return Arg(flags, **options)  # type: ignore[no-untyped-call]  # Airflow's own is untyped


NOW = "now"
FILE = arg("file", help="the file", metavar="FILE")
DRY_RUN = arg("--dry-run", help="tell what would be done, and do nothing", action="store_true")


def command(run: Command) -> Command:
    """Turn a `DetectionError` of a command into one clear line on stderr and exit 1.

    Any other error is written with its traceback, by `fail` too: it may quote what a row or a file holds.
    """

    @wraps(run)
    def guarded(args: Arguments) -> None:
        try:
            run(args)
        except DetectionError as error:
            fail(str(error) or type(error).__name__)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except Exception:
            fail(traceback.format_exc())

    return guarded


def fail(message: str) -> None:
    """Write the error to stderr, and exit 1."""
    warn(message)
    sys.exit(1)


def warn(message: str) -> None:
    """Write to stderr; control characters, but line feeds, as escapes."""
    sys.stderr.write(f"{visible_lines(message.rstrip())}\n")


def say(line: str) -> None:
    """Write one line to stdout; control characters, and line feeds, as escapes."""
    sys.stdout.write(f"{visible(line)}\n")


def say_json(content: object) -> None:
    """Write JSON to stdout, its keys in order; every control character is escaped as JSON has it."""
    text = json.dumps(content, indent=2, sort_keys=True).replace("\x7f", "\\u007f")
    sys.stdout.write(f"{text}\n")


def show(rows: Iterable[Mapping[str, object]], output: str) -> None:
    """Write rows as Airflow's own listings are written: as table, plain, json or yaml."""
    from airflow.cli.simple_table import AirflowConsole
    from rich.markup import escape

    if output == "json":
        say_json(list(rows))
        return
    shown = [
        {name: "" if value is None else visible(str(value)) for name, value in row.items()} for row in rows
    ]
    if output == "table":  # its cells are markup
        shown = [{name: escape(text) for name, text in row.items()} for row in shown]
    AirflowConsole().print_as(data=shown, output=output)


@contextmanager
def connected() -> Iterator[tuple[Database, Settings]]:
    """The registry's database, its connection perhaps from the metadata database, and the settings."""
    # Without this a provider's command sees no connection that is stored in the metadata database.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    import psycopg

    from airflow_detection import config
    from airflow_detection.hooks.detection import DetectionHook
    from airflow_detection.store.database import Database
    from airflow_detection.store.driver_errors import is_unmigrated, no_registry, unavailable

    settings = config.settings()
    with DetectionHook.configured(settings).connect() as conn:
        try:
            yield Database(conn, settings.schema), settings
        except psycopg.Error as error:
            if is_unmigrated(error):
                raise no_registry() from error
            if (passing := unavailable(error, "the registry's database did not answer")) is not None:
                raise passing from error
            raise StorageError(f"the database refused: {str(error).strip()}") from error
