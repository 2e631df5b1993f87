"""State that `.demo` saves from one demo to the next: ports, passwords, keys; and the file to source."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from demo.errors import DemoError


def _secret() -> str:
    return secrets.token_urlsafe(24)


def _short_secret() -> str:
    return secrets.token_hex(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """Values without which a second demo could not use the databases of the first."""

    postgres_port: int | None = None
    postgres_password: str = field(default_factory=_secret)
    login_password: str = field(default_factory=_secret)  # of the registry's two logins
    api_secret: str = field(default_factory=_secret)
    jwt_secret: str = field(default_factory=_secret)
    user_password: str = field(default_factory=_short_secret)  # of each user who signs in to Airflow
    metadata_at: str = ""  # the Airflow version and the migration that the metadata was brought to
    newest: dict[str, str] = field(default_factory=dict)  # file that was loaded -> its newest position (ISO)


def open_state(state: Path) -> SavedState:
    """Make the directories of the demo and return its saved state, a new one the first time.

    Raises:
        DemoError: the directory cannot be made, or the saved state cannot be read.
    """
    try:
        for name in ("logs", "airflow"):
            (state / name).mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise DemoError(f"{exc.filename} cannot be made: {exc.strerror}") from exc
    path = state / "state.json"
    if not path.exists():
        return save_state(state, SavedState())
    try:
        return SavedState(**json.loads(path.read_text()))
    except (ValueError, TypeError) as exc:
        raise DemoError(f"{path} is broken; `make demo-clean` removes it") from exc


def save_state(state: Path, saved: SavedState) -> SavedState:
    """Write the state for the next demo, readable by its owner alone; return it."""
    write_private(state / "state.json", json.dumps(asdict(saved), indent=1) + "\n")
    return saved


def write_env(state: Path, env: Mapping[str, str], venv: Path) -> Path:
    """Write `.demo/env`, a shell file to source; it holds passwords and is readable by its owner alone."""
    lines = ["# source this file to reach the demo's registry and its Airflow"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(env.items())]
    lines += [f'export PATH={shlex.quote(str(venv))}:"$PATH"', ""]
    path = state / "env"
    write_private(path, "\n".join(lines))
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone may read."""
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Lock the state directory for this process.

    Raises:
        DemoError: another demo has locked it.
    """
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise DemoError(f"a demo is already running in {state}") from exc
        yield
