"""Feature flags, read from the environment in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping

from airflow_detection.errors import ConfigurationError

USE_MODEL_REGISTRY = "PREDICTION_USE_MODEL_REGISTRY"
CONCURRENT_SHADOWS = "PREDICTION_CONCURRENT_SHADOWS"

_ON = frozenset({"1", "true", "yes", "on"})
_OFF = frozenset({"", "0", "false", "no", "off"})


def use_model_registry(env: Mapping[str, str] = os.environ) -> bool:
    """Tell whether cycles run the registered models; unset, they take their legacy path."""
    return _is_on(USE_MODEL_REGISTRY, env)


def concurrent_shadows(env: Mapping[str, str] = os.environ) -> bool:
    """Tell whether shadows run at the same time (at most four) when a plan runs in one process."""
    return _is_on(CONCURRENT_SHADOWS, env)


def _is_on(name: str, env: Mapping[str, str]) -> bool:
    value = env.get(name, "").strip().lower()
    if value in _ON:
        return True
    if value in _OFF:
        return False
    raise ConfigurationError(f"{name} is {env[name]!r}: must be one of 1, true, yes, on, 0, false, no, off")
