"""`python -m demo`: see `make demo` in the Makefile."""

from __future__ import annotations

import signal
import sys

from rich.markup import escape

from demo.console import Screen, make_console
from demo.errors import DemoError
from demo.scenario import run
from demo.settings import read_settings

INTERRUPTED = 130


def main() -> int:
    """Run the demo; return its exit code."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _interrupt)
    try:
        return 0 if run(read_settings(), Screen()) else 1
    except DemoError as exc:
        make_console(stderr=True).print(f"[bold red]error:[/] {escape(str(exc))}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _interrupt(_signum: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
