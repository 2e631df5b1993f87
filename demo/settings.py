"""Settings of the demo: read from the environment, checked before anything starts."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.errors import DemoError

CHECKOUT = Path(__file__).resolve().parents[1]
MAX_CYCLES = 288  # one day of five-minute cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one demo.

    `ais` is a positions file, or None for the simulated day; `dsn` an existing registry database, or None for
    the embedded server; `once` ends the demo when the cycles have run.
    """

    state: Path
    cycles: int
    port: int
    once: bool
    ais: Path | None
    dsn: str | None

    @property
    def logs(self) -> Path:
        """Directory of the logs of every process of the demo."""
        return self.state / "logs"


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read AIS, CYCLES, DSN, ONCE, PORT and STATE; an empty value is the same as no value.

    Raises:
        DemoError: a value is out of its bounds, the file cannot be read, or the port is in use.
    """
    settings = Settings(
        state=Path(environ.get("STATE") or CHECKOUT / ".demo").resolve(),
        cycles=_number(environ, "CYCLES", default=12, low=1, high=MAX_CYCLES),
        port=_number(environ, "PORT", default=8080, low=1, high=65535),
        once=environ.get("ONCE", "").strip().lower() not in {"", "0", "no", "false"},
        ais=_existing_file(environ.get("AIS")),
        dsn=environ.get("DSN") or None,
    )
    check_port(settings.port)
    return settings


def _number(environ: Mapping[str, str], name: str, *, default: int, low: int, high: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise DemoError(f"{name}={text} is not a number from {low} to {high}")
    return int(text)


def _existing_file(text: str | None) -> Path | None:
    if not text:
        return None
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise DemoError(f"AIS={text}: there is no such file")
    if not os.access(path, os.R_OK):
        raise DemoError(f"AIS={text}: the file cannot be read")
    return path


def check_port(port: int) -> None:
    """Raise DemoError when 127.0.0.1:`port` cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError as exc:
            reason = "is in use" if exc.errno != 13 else "may not be used by this user"
            raise DemoError(f"port {port} on 127.0.0.1 {reason}; name another one with PORT=") from exc


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def keep_or_pick_port(previous: int | None) -> int:
    """Return the port of the last demo if it is still free, else another free one."""
    if previous is not None:
        try:
            check_port(previous)
        except DemoError:
            return free_port()
        return previous
    return free_port()
