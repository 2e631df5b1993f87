"""Encoding of a model's outputs for binary COPY; values that cannot be stored exactly are refused."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from itertools import chain
from math import isfinite
from typing import Any

import orjson

from airflow_detection.domain.specs import ModelSpec, require_utc
from airflow_detection.errors import UnstorableValue
from airflow_detection.store.json_bounds import JsonBounds, integer_reason

MAX_DEPTH = 250
"""Levels of nesting that an output may have; orjson itself ends at 254."""

MAX_JSON_BYTES = 2**24
"""Bytes of JSON of one input_ref or output: jsonb holds 256 MB, and may take sixteen times the text."""

MAX_ENTITY_BYTES = 1024
"""Bytes of an entity id: an index entry of Postgres ends at 2704."""

_OPTIONS = (
    orjson.OPT_SERIALIZE_NUMPY
    | orjson.OPT_NAIVE_UTC  # only for numpy, whose times have no zone: other times are passed through
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
)
_NULL = struct.pack(">i", -1)
_LENGTH = struct.Struct(">i").pack
_DOUBLE = struct.Struct(">id").pack
_JSONB = struct.Struct(">ib").pack  # jsonb's binary form is JSON text behind a version, 1
_NONE = type(None)
_SHORT = 256
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

COPY_HEAD, COPY_TAIL = b"PGCOPY\n\xff\r\n\x00" + bytes(8), struct.pack(">h", -1)
"""What stands before the rows of a binary COPY, and behind them."""


def _jsonable(value: Any) -> Any:  # Any: what orjson does not know
    """Return the value that orjson writes instead; TypeError if there is none."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, datetime):
        return require_utc("it", value).isoformat()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if hasattr(value, "tolist") and not isinstance(
        value, memoryview
    ):  # an array that is not contiguous, or of a type orjson does not know
        return value.tolist()
    raise TypeError(f"is a {type(value).__name__}, which JSON does not have")


def to_json(value: Any) -> bytes:  # Any: a JSON value of our own making
    """Write JSON with sorted keys; not for the outputs of models, which `encode` checks."""
    try:
        return orjson.dumps(value, default=_jsonable, option=_OPTIONS | orjson.OPT_SORT_KEYS)
    except TypeError:  # a whole number beyond 64 bits: 1e22 comes back from jsonb as one
        options: dict[str, Any] = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
        return json.dumps(value, default=_jsonable, allow_nan=False, **options).encode()


def encode(entity: str | None, place: str, value: Any) -> bytes:  # Any: an output of a model
    """Write an object as JSON.

    Instants are written in UTC, as ISO 8601.

    Raises:
        UnstorableValue: NaN, infinity, NUL, a key that is not text, an integer beyond 64 bits, a naive
            datetime, or a type that JSON does not have; `path` starts with `place`.
    """
    if not isinstance(value, Mapping):
        raise UnstorableValue(entity, place, f"is a {type(value).__name__}, not an object")
    try:
        text = orjson.dumps(value, default=_jsonable, option=_OPTIONS)
    except (TypeError, ValueError, RecursionError) as error:
        for path, reason in _STORABLE.violations(place, value):
            raise UnstorableValue(entity, path, reason) from error
        raise UnstorableValue(entity, place, _reason(error)) from error
    if len(text) > MAX_JSON_BYTES:
        raise UnstorableValue(entity, place, f"has {len(text)} bytes of JSON, more than {MAX_JSON_BYTES}")
    # NaN and infinity were written as null: look closer, unless parsing the text gives the same value
    if b"\\u0000" in text or not (_nulls_are_none(text, value) or _is_same(text, value)):
        for path, reason in _STORABLE.violations(place, value):
            raise UnstorableValue(entity, path, reason)
    return text


def _needs_a_look(text: bytes, value: Mapping[str, Any]) -> bool:  # Any: as encode
    """Tell whether JSON may be too long, or hold NUL or a null that stands for something else than None."""
    if len(text) > MAX_JSON_BYTES or b"\\u0000" in text:
        return True
    return b"null" in text and not _nulls_are_none(text, value)


def _nulls_are_none(text: bytes, value: Mapping[str, Any]) -> bool:  # Any: as encode
    """Tell whether each null stands for a None in the two top levels: a quick test, true of most outputs."""
    null_count, types = text.count(b"null"), list(map(type, value.values()))
    if (none_count := types.count(_NONE)) != null_count and dict in types:
        inner = (part.values() for part in value.values() if type(part) is dict)
        none_count += list(map(type, chain.from_iterable(inner))).count(_NONE)
    return null_count == none_count


def _is_same(text: bytes, value: Any) -> bool:  # Any: an output of a model
    try:
        return bool(orjson.loads(text) == value)
    except (ValueError, TypeError, RecursionError):  # arrays do not compare to one truth value
        return False


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(cause) if str(cause).startswith("is ") else f"cannot be written as JSON: {cause}"


def _leaf_reason(value: Any) -> str | None:  # Any: a value that is neither an object nor an array
    if isinstance(value, int) and (reason := integer_reason(value)):
        return reason
    if isinstance(value, datetime) and value.tzinfo is None:
        return "is a datetime without a time zone"
    try:
        text = orjson.dumps(value, default=_jsonable, option=_OPTIONS)
    except (TypeError, ValueError, RecursionError) as error:
        return _reason(error)
    if b"\\u0000" in text and "\0" in str(value):
        return "holds a NUL character"
    if value is not None and b"null" in text and not isinstance(value, str):
        return f"is not a finite number: {value}"
    return None


_STORABLE = JsonBounds(
    max_depth=MAX_DEPTH,
    is_object=lambda value: isinstance(value, Mapping),
    is_array=lambda value: isinstance(value, list) or type(value) is tuple,  # orjson takes no other tuples
    leaf_reason=_leaf_reason,
)


def entity_of(model: ModelSpec, input_ref: Mapping[str, Any], output: Mapping[str, Any]) -> str | None:
    """Return the entity id as text, from the output, else the input_ref; None if there is none.

    Raises:
        UnstorableValue: the model has an entity key, and neither has it, or it is not a text or an integer.
    """
    key = model.entity_key
    if key is None:
        return None
    if key not in output and key not in input_ref:
        raise UnstorableValue(None, f"outputs.{key}", "is missing, in the input_ref too")
    value = output.get(key)
    value = input_ref.get(key) if value is None else value
    if value is None or type(value) is str:
        return _checked_text(key, value)
    scalar = _scalar(value)
    if isinstance(scalar, bool) or not isinstance(scalar, (str, int)):
        raise UnstorableValue(None, f"outputs.{key}", f"is a {type(value).__name__}, not an entity id")
    if isinstance(scalar, int) and not -(2**63) <= scalar < 2**64:
        raise UnstorableValue(None, f"outputs.{key}", "is an integer beyond 64 bits")
    return _checked_text(key, str(scalar))


def _scalar(value: Any) -> Any:  # Any: an output of a model
    """Return a numpy scalar as a Python value; any other value as it is."""
    try:
        return value.item() if hasattr(value, "item") else value
    except (TypeError, ValueError):
        return value


def _checked_text(key: str, text: str | None) -> str | None:
    if text is not None and "\0" in text:
        raise UnstorableValue(text, f"outputs.{key}", "holds a NUL character")
    try:
        if text is not None:
            text.encode()
    except UnicodeEncodeError as error:
        raise UnstorableValue(text, f"outputs.{key}", "is not valid Unicode") from error
    if text is not None and len(text.encode()) > MAX_ENTITY_BYTES:
        raise UnstorableValue(text[:80], f"outputs.{key}", f"has more than {MAX_ENTITY_BYTES} bytes")
    return text


def score_of(model: ModelSpec, entity: str | None, output: Mapping[str, Any]) -> float | None:
    """Return the score of an output; None stays None.

    Raises:
        UnstorableValue: the model has a score key, and the output lacks it or has no finite number there.
    """
    key = model.score_key
    if key is None:
        return None
    path = f"outputs.{key}"
    if key not in output:
        raise UnstorableValue(entity, path, "is missing")
    value = output[key]
    if value is None:
        return None
    scalar = _scalar(value)
    if isinstance(scalar, bool) or not isinstance(scalar, (int, float)):
        raise UnstorableValue(entity, path, f"is a {type(value).__name__}, not a number")
    try:
        score = float(scalar)
    except OverflowError as error:
        raise UnstorableValue(entity, path, "is beyond the range of a double") from error
    if not math.isfinite(score):
        raise UnstorableValue(entity, path, f"is not a finite number: {score}")
    return score


def row_encoder(model: ModelSpec) -> Callable[[int, Any], tuple[bytes, float | None]]:  # Any: as encode_row
    """Return `encode_row` for one model: what is the same for each row is looked up once."""
    entity_key, score_key = model.entity_key, model.score_key
    dumps, join = orjson.dumps, b"".join

    def encode_pair(number: int, pair: Any) -> tuple[bytes, float | None]:  # Any: an output of a model
        try:
            input_ref, output = pair
            is_plain = type(input_ref) is dict and type(output) is dict
        except (TypeError, ValueError):
            is_plain = False
        if not is_plain:
            input_ref, output = _checked_pair(number, pair)
        value = output.get(entity_key) if entity_key is not None else None
        if type(value) is int and -(2**63) <= value < 2**64:
            entity: str | None = str(value)
        elif type(value) is str and len(value) < _SHORT and value.isascii() and "\0" not in value:
            entity = value
        else:
            entity = entity_of(model, input_ref, output)
        raw_score = output.get(score_key) if score_key is not None else None
        score = (
            raw_score if type(raw_score) is float and isfinite(raw_score) else score_of(model, entity, output)
        )
        try:
            ref_text = dumps(input_ref, _jsonable, _OPTIONS)
            text = dumps(output, _jsonable, _OPTIONS)
        except (TypeError, ValueError, RecursionError):
            ref_text = text = b"\\u0000"  # `encode` names the place
        if _needs_a_look(ref_text, input_ref):
            ref_text = encode(entity, "input_ref", input_ref)
        if _needs_a_look(text, output):
            text = encode(entity, "outputs", output)
        name = None if entity is None else entity.encode()
        row = join(
            (
                _NULL if name is None else _LENGTH(len(name)) + name,
                _NULL if score is None else _DOUBLE(8, score),
                _JSONB(len(ref_text) + 1, 1),
                ref_text,
                _JSONB(len(text) + 1, 1),
                text,
            )
        )
        return row, score

    return encode_pair


def _checked_pair(
    number: int, pair: Any
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:  # Any: as encode_row
    if isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(p, Mapping) for p in pair):
        return pair[0], pair[1]
    raise UnstorableValue(
        None, f"outputs_per_input[{number}]", "is not an (input_ref, output) pair of objects"
    )


def encode_row(
    model: ModelSpec,
    number: int,
    pair: Any,  # Any: an output of a model
) -> tuple[bytes, float | None]:
    """Return the fields entity_id, score, input_ref and outputs of one row for binary COPY, and the score.

    Raises:
        UnstorableValue: a value in it cannot be stored exactly.
    """
    return row_encoder(model)(number, pair)


def field(value: bytes | None) -> bytes:
    """Return one field of a binary COPY: its length, then its bytes; None is null."""
    return _NULL if value is None else _LENGTH(len(value)) + value


def instant_field(at: datetime) -> bytes:
    """Return a timestamptz as a field of a binary COPY."""
    return field(struct.pack(">q", (at - _EPOCH) // _EPOCH.resolution))
