"""The params of versions, cached, so that a database that is away for a moment stops nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from airflow_detection.domain.json_values import JsonMapping, frozen

_log = logging.getLogger("airflow_detection.engine")


class ParamsLoader:
    """Params by version id, each loaded at most once in `ttl_s` seconds; they are read-only.

    Args:
        load: fetches the params of one version.
        ttl_s: seconds after which a value is fetched anew.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        load: Callable[[int], Mapping[str, Any]],  # Any: a JSON object, the model's own
        *,
        ttl_s: float = 300,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load, self._ttl_s, self._clock = load, ttl_s, clock
        self._held: dict[int, tuple[float, JsonMapping]] = {}

    def get(self, version_id: int) -> JsonMapping:
        """Return the params of a version; an old value, with its age in the log, where `load` fails.

        Raises:
            Exception: what `load` raised, where no value is held.
        """
        now = self._clock()
        held = self._held.get(version_id)
        if held is not None and now - held[0] < self._ttl_s:
            return held[1]
        try:
            value: JsonMapping = frozen(self._load(version_id))
        except Exception as error:
            if held is None:
                raise
            _log.warning(
                "params of version %s cannot be loaded (%s); serving those loaded %.0f s ago",
                version_id, error, now - held[0],
            )  # fmt: skip
            return held[1]
        self._held[version_id] = (now, value)
        return value

    def clear(self) -> None:
        """Forget every value."""
        self._held.clear()
