"""Lines of structlog, through which Airflow logs, in a forked process: one JSON object a line.

Standard library only: it is asked for structlog's configuration where something else has loaded it.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

_LEFT_OUT = ("event", "level", "logger", "timestamp", "filename", "lineno", "loc")


def detach_structlog() -> int | None:
    """Drop the task's facts, which the parent adds; return the descriptor of the lines, None without one."""
    try:
        structlog = sys.modules["structlog"]
        structlog.contextvars.clear_contextvars()
        return int(structlog.get_config()["logger_factory"].io.fileno())
    except (KeyError, AttributeError, OSError, ValueError):  # not loaded, or configured in another way
        return None


def log_record_of(line: str) -> tuple[str, int, str] | None:
    """Return the logger's name, the level and the text of a line that structlog wrote; None of any other."""
    try:
        fields: Any = json.loads(line) if line.startswith("{") else None  # Any: JSON
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not {"event", "level", "timestamp"} <= fields.keys():
        return None
    level = logging.getLevelNamesMapping().get(str(fields["level"]).upper(), logging.INFO)
    values = (f" {name}={value}" for name, value in fields.items() if name not in _LEFT_OUT)
    return str(fields.get("logger") or "structlog"), level, f"{fields['event']}{''.join(values)}"
