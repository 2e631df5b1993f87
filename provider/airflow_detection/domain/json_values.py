"""JSON values that nobody can change."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

JsonMapping = Mapping[str, Any]  # Any: a JSON object whose shape is the model's own


def frozen(value: Any) -> Any:  # Any: any JSON value
    """Return a deeply read-only copy of a JSON value: mappings as proxies, lists and sets as tuples."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: frozen(item) for key, item in value.items()})
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(frozen(item) for item in value)
    if isinstance(value, bytearray):
        return bytes(value)
    return value


def plain(value: Any) -> Any:  # Any: any JSON value
    """Return a copy of a JSON value with mappings as dicts and tuples as lists: the inverse of `frozen`."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def freeze_in_place(value: Any) -> Any:  # Any: any JSON value
    """Make a JSON value deeply read-only in place, and return what stands for it.

    For values that were parsed just now and that nobody else holds: several times cheaper than `frozen`.
    """
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(item) in _CONTAINERS:
                value[key] = freeze_in_place(item)
        return MappingProxyType(value)
    if kind is list:
        return tuple([freeze_in_place(item) if type(item) in _CONTAINERS else item for item in value])
    return value


_CONTAINERS = frozenset({dict, list})
