"""A wrong option of `[detection]` is one line: the option, its value, the bound."""

from __future__ import annotations

import pytest

from airflow_detection import config
from airflow_detection.errors import ConfigurationError

NUMBER = "must be a number between 0 and 31622400"
SCHEMA = "must be 1 to 63 characters of a-z, 0-9 and _, the first not a digit"


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("plan_ttl", "x", NUMBER),
        ("plan_ttl", "-1", NUMBER),
        ("plan_ttl", "31622401", NUMBER),
        ("plan_ttl", "nan", NUMBER),
        ("statement_timeout", "1 s", NUMBER),
        ("inline_timeout", "", NUMBER),
        ("inline_memory", "inf", NUMBER),
        ("schema", 'x"y', SCHEMA),
        ("schema", "9", SCHEMA),
        ("schema", "a" * 64, SCHEMA),
        ("conn_id", "", "must be the id of an Airflow connection"),
    ],
)
def test_a_wrong_option_is_named_with_its_value_and_the_rule(
    option: str, value: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AIRFLOW__DETECTION__{option.upper()}", value)
    with pytest.raises(ConfigurationError) as caught:
        config.settings()
    assert str(caught.value) == f"[detection] {option} is {value!r}: {rule}"


def test_the_bounds_themselves_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DETECTION__PLAN_TTL", "0")
    monkeypatch.setenv("AIRFLOW__DETECTION__INLINE_TIMEOUT", "31622400")
    settings = config.settings()
    assert (settings.plan_ttl_s, settings.inline_timeout_s) == (0, 31622400)


def test_an_inline_cycle_needs_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DETECTION__INLINE_TIMEOUT", "0")
    with pytest.raises(ConfigurationError) as caught:
        config.settings()
    assert str(caught.value) == "[detection] inline_timeout is 0: must be above 0 seconds"


def test_a_module_that_is_allowed_has_a_modules_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DETECTION__ALLOWED_MODULES", "acme.detectors, acme-fraud")
    with pytest.raises(ConfigurationError) as caught:
        config.settings()
    assert str(caught.value) == (
        "[detection] allowed_modules has 'acme-fraud': must be a module such as acme.detectors"
    )


@pytest.mark.parametrize(
    ("option", "value", "number"),
    [
        ("verdict_p_value", "x", "a number"),
        ("verdict_p_value", "0", "a number"),
        ("verdict_p_value", "1000000", "a number"),
        ("verdict_p_value", "nan", "a number"),
        ("verdict_stale_cycles", "2.5", "a whole number"),
        ("verdict_stale_cycles", "-1", "a whole number"),
    ],
)
def test_a_wrong_threshold_is_named_with_its_value_and_the_rule(
    option: str, value: str, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AIRFLOW__DETECTION__{option.upper()}", value)
    with pytest.raises(ConfigurationError) as caught:
        config.thresholds()
    assert str(caught.value) == (
        f"[detection] {option} is {value!r}: must be {number} above 0 and below 1000000"
    )
