"""What a database's error says about trying again, by its SQLSTATE: the one place that classes them."""

from __future__ import annotations

_PASSING_CLASSES = frozenset({"08", "40", "53", "57", "58"})
"""Connection, rollback (deadlock, serialization), resources, an operator's intervention, the system."""
_PASSING = frozenset({"25P03", "55006", "55P03"})
"""A transaction that was ended because it was idle, an object that is in use, a lock that was not free."""


def may_pass(sqlstate: str) -> bool:
    """Tell whether the same statement may succeed later, though nobody changes data, schema or statement."""
    return sqlstate in _PASSING or sqlstate[:2] in _PASSING_CLASSES
