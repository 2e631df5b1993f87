"""A report as an HTML file, with the address of what it is about where Airflow knows its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_detection.errors import ConfigurationError


def write_page(path: str, report: Mapping[str, Any], page: str | None) -> None:  # Any: JSON values
    """Write a report.

    Args:
        page: the page in Airflow's UI, as `domain.links` gives it; None if there is none.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    from airflow_detection.snapshot.rendering.html import render_html

    text = render_html(report, address=page and _address_of(page))
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error


def _address_of(page: str) -> str | None:
    """Return the address of a page below `[api] base_url`; None where that is not set."""
    from airflow.configuration import conf

    base = conf.get("api", "base_url", fallback="") or ""
    return f"{base.rstrip('/')}/{page}" if urlsplit(base).scheme in ("http", "https") else None
