"""Params, cached, so that a database that does not answer for a moment stops nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from airflow_detection.domain.json_values import JsonMapping, frozen
from airflow_detection.errors import PlanError

_log = logging.getLogger("airflow_detection.engine")
K = TypeVar("K", int, str)


class ParamsLoader(Generic[K]):
    """Params by version id or model id, each loaded at most once in `ttl_s` seconds; they are read-only.

    Args:
        load: fetches the params of one id.
        ttl_s: seconds after which a value is fetched anew.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        load: Callable[[K], Mapping[str, Any]],  # Any: a JSON object, the model's own
        *,
        ttl_s: float = 300,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load: Callable[[K], Mapping[str, Any]] = load  # Any: as above
        self._ttl_s, self._clock = ttl_s, clock
        self._values: dict[K, tuple[float, JsonMapping]] = {}

    def get(self, key: K) -> JsonMapping:
        """Return the params of an id; an old value, with its age in the log, where `load` fails.

        Raises:
            PlanError: `load` raised it: the registry answered that there are none. The old value is dropped.
            Exception: what else `load` raised, where there is no old value.
        """
        now = self._clock()
        old = self._values.get(key)
        if old is not None and now - old[0] < self._ttl_s:
            return old[1]
        try:
            value: JsonMapping = frozen(self._load(key))
        except PlanError:
            self._values.pop(key, None)
            raise
        except Exception as error:
            if old is None:
                raise
            _log.warning(
                "params of %s cannot be loaded (%s); serving those loaded %.0f s ago",
                key, error, now - old[0],
            )  # fmt: skip
            return old[1]
        self._values[key] = (now, value)
        return value

    def clear(self) -> None:
        """Forget every value."""
        self._values.clear()
