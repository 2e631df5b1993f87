"""Text of values, the same in every rendering."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_detection.snapshot.report import Kind

NONE = "\u2013"
_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def text(kind: Kind, value: object) -> str:
    """Return a value as text; a dash where there is none."""
    if value is None or value == "":
        return NONE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return instant(str(value)) if kind is Kind.INSTANT else str(value)
    return _number(kind, float(value))


def _number(kind: Kind, value: float) -> str:
    if kind is Kind.SHARE:
        return (
            f"{value:.2%}" if 0 < abs(value) < 0.01 else f"{value:.1%}" if value < 0.9995 else f"{value:.0%}"
        )
    if kind is Kind.MS:
        return (
            f"{value / 1000:,.1f} s"
            if value >= 10_000
            else f"{value:,.0f} ms"
            if value >= 10
            else f"{value:.1f} ms"
        )
    if kind is Kind.SECONDS:
        return _length(value)
    if kind is Kind.RATIO:
        return f"\u00d7{value:.2f}"
    if kind is Kind.COUNT:
        return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"
    return f"{value:.3f}"


def _length(seconds: float) -> str:
    for size, unit in _UNITS:
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} s" if abs(seconds) >= 10 else f"{seconds:.1f} s"


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def sentence(summary: str) -> str:
    """Return a summary with a capital at its start, unless its first word is a name."""
    is_word = summary.partition(" ")[0].rstrip(",;").isalpha()
    return summary[:1].upper() + summary[1:] if is_word else summary


def instant(iso: str) -> str:
    """Return an instant in UTC to the minute, with seconds where they are not 0."""
    try:
        at = datetime.fromisoformat(iso).astimezone(UTC)
    except ValueError:
        return iso
    return f"{at:%Y-%m-%d %H:%M:%S}" if at.second else f"{at:%Y-%m-%d %H:%M}"


def period(start: str, end: str) -> str:
    """Return the period of a report as text."""
    a, b = instant(start), instant(end)
    return f"{a} to {b[11:] if a[:10] == b[:10] else b} UTC"


NUMERIC = frozenset({Kind.COUNT, Kind.SHARE, Kind.NUMBER, Kind.SCORE, Kind.MS, Kind.SECONDS, Kind.RATIO})
BAD_VERDICTS = frozenset(
    {"DID_NOT_RUN", "FAILED", "SKIPPED_UPSTREAM", "SILENT_FAULT", "INPUT_DEGRADED", "SUSPECT", "SURGE"}
)
GOOD_VERDICTS = frozenset({"OK", "NO_SIGNAL"})


def tone(verdict: str) -> str:
    """Return the CSS class of a verdict."""
    return "bad" if verdict in BAD_VERDICTS else "ok" if verdict in GOOD_VERDICTS else "attention"
