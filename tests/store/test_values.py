"""Every kind of value that a model may give: stored as the table in the docs says, or refused by name."""

from __future__ import annotations

import enum
import math
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest

from airflow_detection.domain.specs import ModelSpec
from airflow_detection.errors import UnstorableValue
from airflow_detection.store.connection import connect
from airflow_detection.store.encoding import MAX_DEPTH, MAX_JSON_BYTES, encode, encode_row


class Text(str):
    """A text of another type."""

    __slots__ = ()


class Whole(int):
    """A number of another type."""


class Pair(NamedTuple):
    """A tuple with names."""

    a: int


class Kind(enum.Enum):
    """Values behind names."""

    PLAIN = "plain"
    NAN = math.nan
    RAW = b"raw"


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


STORED = {
    "text subclass": (Text("x"), "x"),
    "int subclass": (Whole(5), 5),
    "enum": (Kind.PLAIN, "plain"),
    "escapes": ('"\\\n\t\u2028 ☃ 🚢 \\u0000', '"\\\n\t\u2028 ☃ 🚢 \\u0000'),
    "last of 64 bits": (2**64 - 1, 2**64 - 1),
    "first of 64 bits": (-(2**63), -(2**63)),
    "largest float": (1.7976931348623157e308, 1.7976931348623157e308),
    "smallest float": (5e-324, 5e-324),
    "float of 17 digits": (0.1 + 0.2, 0.1 + 0.2),
    "whole float": (1e22, 1e22),
    "minus zero": (-0.0, 0.0),
    "nothing": (None, None),
    "nulls within": ([None, {"a": None}], [None, {"a": None}]),
    "empty": ([{}, [], ""], [{}, [], ""]),
    "instant": (datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC), "2026-01-01T00:00:00.000001+00:00"),
    "date": (date(2026, 1, 1), "2026-01-01"),
    "time": (time(1, 2), "01:02:00"),
    "uuid": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "numpy bool": (np.bool_(True), True),
    "numpy uint64": (np.uint64(2**64 - 1), 2**64 - 1),
    "numpy float32": (np.float32(0.1), 0.1),
    "numpy time": (np.datetime64("2026-01-01T01:00"), "2026-01-01T01:00:00+00:00"),
    "array without dimension": (np.array(1.5), 1.5),
    "array of text": (np.array(["a", "b"]), ["a", "b"]),
    "array of two dimensions": (np.array([[1, 2], [3, 4]]).T, [[1, 3], [2, 4]]),
    "deep": (nested(MAX_DEPTH - 5), nested(MAX_DEPTH - 5)),
    "long": ("x" * 2**20, "x" * 2**20),
}

REFUSED: dict[str, tuple[Any, str, str]] = {
    "enum of NaN": (Kind.NAN, "outputs.a", "not a finite number"),
    "enum of bytes": (Kind.RAW, "outputs.a", "bytes"),
    "NaN beside null": ([None, math.nan], "outputs.a[1]", "not a finite number"),
    "NaN beside a text": (["null", math.nan], "outputs.a[1]", "not a finite number"),
    "half NaN": (np.float16("nan"), "outputs.a", "not a finite number"),
    "NaN among objects": (np.array([1, math.nan], dtype=object), "outputs.a", "not a finite number"),
    "masked": (np.ma.masked_array([1.0, 2.0], mask=[False, True]), "outputs.a", "not a finite number"),
    "int subclass": (Whole(2**64), "outputs.a", "64 bits"),
    "beyond float": ([10**400], "outputs.a[0]", "64 bits"),
    "enum as key": ({Kind.PLAIN: 1}, "outputs.a", "key"),
    "text subclass as key": ({Text("k"): 1}, "outputs.a", "key"),
    "null as key": ({None: 1}, "outputs.a", "key"),
    "surrogate in a key": ({"\ud800": 1}, "outputs.a", "key"),
    "surrogate in a text": ({"b": "a\udfff"}, "outputs.a.b", "cannot be written"),
    "bytearray": (bytearray(b"x"), "outputs.a", "bytearray"),
    "memoryview": (memoryview(b"x"), "outputs.a", "memoryview"),
    "frozenset": (frozenset([1]), "outputs.a", "frozenset"),
    "generator": (iter(()), "outputs.a", "iterator"),
    "named tuple": ([Pair(1)], "outputs.a[0]", "Pair"),
    "duration": (timedelta(1), "outputs.a", "timedelta"),
    "numpy duration": (np.timedelta64(1, "s"), "outputs.a", "timedelta"),
    "no time of numpy": (np.datetime64("NaT"), "outputs.a", "cannot be written"),
    "complex": (np.complex64(1), "outputs.a", "complex"),
    "Decimal": ([Decimal("1.5")], "outputs.a[0]", "Decimal"),
    "long double": (np.longdouble(1.5), "outputs.a", "cannot be written"),
    "very deep": (nested(5000), "outputs.a[0]", "levels deep"),
}


@pytest.fixture(scope="module")
def through_postgres(server: str) -> Iterator[Callable[[bytes], Any]]:
    """Function that returns the value that jsonb gives back for a text."""
    with connect(server) as conn:

        def read(text: bytes) -> Any:
            row = conn.execute("select %s::jsonb::text", (text.decode(),)).fetchone()
            assert row
            return orjson.loads(row[0])

        yield read


@pytest.mark.parametrize("name", STORED)
def test_a_value_comes_back_as_the_documentation_says(name: str, through_postgres: Any) -> None:
    value, expected = STORED[name]
    assert through_postgres(encode("e", "outputs", {"a": value})) == {"a": expected}


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_would_change_is_refused_with_entity_and_path(name: str) -> None:
    value, path, reason = REFUSED[name]
    with pytest.raises(UnstorableValue) as caught:
        encode("211000001", "outputs", {"a": value})
    assert caught.value.entity == "211000001"
    assert caught.value.path.startswith(path)
    assert name == "very deep" or caught.value.path == path
    assert reason in caught.value.reason


def test_an_output_ends_at_16_mib() -> None:
    whole = '{"a":""}'
    assert encode("e", "outputs", {"a": "x" * (MAX_JSON_BYTES - len(whole))})
    with pytest.raises(UnstorableValue, match=f"entity 'e'.*outputs has {MAX_JSON_BYTES + 1} bytes"):
        encode("e", "outputs", {"a": "x" * (MAX_JSON_BYTES - len(whole) + 1)})


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"id": 10**5000, "score": 1.0}, "entity None cannot be stored: outputs.id is an integer beyond 64"),
        ({"id": Whole(2**64), "score": 1.0}, "entity None cannot be stored: outputs.id is an integer beyond"),
        (
            {"id": np.array([1, 2]), "score": 1.0},
            "entity None cannot be stored: outputs.id is a ndarray",
        ),
        (
            {"id": "a", "score": np.array([1, 2])},
            "entity 'a' cannot be stored: outputs.score is a ndarray",
        ),
        ({"id": "a", "score": 10**5000}, "entity 'a' cannot be stored: outputs.score is beyond the range"),
    ],
)
def test_an_entity_or_a_score_that_is_no_single_value_is_refused_by_name(
    output: dict[str, Any], message: str
) -> None:
    model = ModelSpec(model_id="m", entity_key="id", score_key="score")
    with pytest.raises(UnstorableValue) as caught:
        encode_row(model, 0, ({}, output))
    assert message in str(caught.value)


def test_whole_numbers_of_64_bits_are_entities() -> None:
    model = ModelSpec(model_id="m", entity_key="id")
    for entity in (0, -(2**63), 2**64 - 1, np.uint64(2**64 - 1)):
        assert str(entity).encode() in encode_row(model, 0, ({}, {"id": entity}))[0]
