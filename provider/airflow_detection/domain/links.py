"""Addresses of the pages in Airflow's UI, without a leading slash: they work behind a path prefix."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote, urlencode

PAGE = "plugin/detection"
API = "detection/api"


def page(view: str, **values: object) -> str:
    """Return the address of a page with what it is to show; values that are None are left out."""
    given = {"view": view} | {name: _text(value) for name, value in values.items() if value is not None}
    return f"{PAGE}?{urlencode(given, quote_via=quote, safe='')}"


def plan_image(cycle_id: str) -> str:
    """Return the address of the picture of a cycle's plan."""
    return f"{API}/cycles/{quote(cycle_id, safe='')}/plan.svg"


def curve_image(promotion_id: int) -> str:
    """Return the address of the picture of a promotion's evidence."""
    return f"{API}/promotions/{promotion_id}/curve.svg"


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
