"""From a model's outputs to the bytes of a binary COPY, refusing what cannot be stored exactly."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from math import isfinite
from typing import Any

import orjson

from airflow_detection.domain.specs import ModelSpec, require_utc
from airflow_detection.errors import UnstorableValue

MAX_DEPTH = 250
"""Levels of nesting that an output may have; orjson itself ends at 254."""

MAX_JSON_BYTES = 2**24
"""Bytes of JSON of one input_ref or output: jsonb holds 256 MB, and may take sixteen times the text."""

MAX_ENTITY_BYTES = 1024
"""Bytes of an entity id: an index entry of Postgres ends at 2704."""

_OPTIONS = (
    orjson.OPT_SERIALIZE_NUMPY
    | orjson.OPT_NAIVE_UTC  # of numpy alone, whose times have no zone: ours are passed through
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
)
_NULL = struct.pack(">i", -1)
_LENGTH = struct.Struct(">i").pack
_DOUBLE = struct.Struct(">id").pack
_JSONB = struct.Struct(">ib").pack  # jsonb's binary form is JSON text behind a version, 1
_NONE = type(None)
_SHORT = 256


def _plain(value: Any) -> Any:  # Any: what orjson does not know
    """What orjson is to write instead; TypeError refuses the value."""
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
    """Write JSON with sorted keys; not for what models give back, which `encode` checks."""
    try:
        return orjson.dumps(value, default=_plain, option=_OPTIONS | orjson.OPT_SORT_KEYS)
    except TypeError:  # a whole number beyond 64 bits: 1e22 comes back from jsonb as one
        options: dict[str, Any] = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
        return json.dumps(value, default=_plain, allow_nan=False, **options).encode()


def encode(entity: str | None, place: str, value: Any) -> bytes:  # Any: what a model gave back
    """Write an object as JSON.

    Instants are written in UTC, as ISO 8601.

    Raises:
        UnstorableValue: NaN, infinity, NUL, a key that is not text, an integer beyond 64 bits, a naive
            datetime, or a type that JSON does not have; `path` starts with `place`.
    """
    if not isinstance(value, Mapping):
        raise UnstorableValue(entity, place, f"is a {type(value).__name__}, not an object")
    try:
        text = orjson.dumps(value, default=_plain, option=_OPTIONS)
    except (TypeError, ValueError, RecursionError) as error:
        for path, fact in _refusals(place, value, 0):
            raise UnstorableValue(entity, path, fact) from error
        raise UnstorableValue(entity, place, _fact(error)) from error
    if len(text) > MAX_JSON_BYTES:
        raise UnstorableValue(entity, place, f"has {len(text)} bytes of JSON, more than {MAX_JSON_BYTES}")
    # NaN and infinity were written as null: look closer, unless reading it again gives the same
    if b"\\u0000" in text or not (_nulls_are_none(text, value) or _is_same(text, value)):
        for path, fact in _refusals(place, value, 0):
            raise UnstorableValue(entity, path, fact)
    return text


def _nulls_are_none(text: bytes, value: Mapping[str, Any]) -> bool:  # Any: as encode
    """Whether each null stands for a None at the top level: quick, and true of most outputs."""
    return text.count(b"null") == list(map(type, value.values())).count(_NONE)


def _is_same(text: bytes, value: Any) -> bool:  # Any: what a model gave back
    try:
        return bool(orjson.loads(text) == value)
    except (ValueError, TypeError, RecursionError):  # arrays do not compare to one truth value
        return False


def _fact(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(cause) if str(cause).startswith("is ") else f"cannot be written as JSON: {cause}"


def _refusals(path: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:  # Any: any value
    """Iterate over the places inside `value` that cannot be stored, with what is wrong there."""
    if depth > MAX_DEPTH:
        yield path, f"is nested more than {MAX_DEPTH} levels deep"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if type(key) is not str or "\0" in key or not _is_unicode(key):
                yield path, f"has the key {key!r}, which is not plain text"
            else:
                yield from _refusals(f"{path}.{key}", item, depth + 1)
    elif isinstance(value, list) or type(value) is tuple:  # orjson takes no other tuples
        for number, item in enumerate(value):
            yield from _refusals(f"{path}[{number}]", item, depth + 1)
    else:
        fact = _leaf_refusal(value)
        if fact:
            yield path, fact


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def _leaf_refusal(value: Any) -> str | None:  # Any: a value that is neither an object nor an array
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return "is an integer beyond 64 bits"
    if isinstance(value, datetime) and value.tzinfo is None:
        return "is a datetime without a time zone"
    try:
        text = orjson.dumps(value, default=_plain, option=_OPTIONS)
    except (TypeError, ValueError, RecursionError) as error:
        return _fact(error)
    if b"\\u0000" in text and "\0" in str(value):
        return "holds a NUL character"
    if value is not None and b"null" in text and not isinstance(value, str):
        return f"is not a finite number: {value}"
    return None


def entity_of(model: ModelSpec, input_ref: Mapping[str, Any], output: Mapping[str, Any]) -> str | None:
    """The entity id as text, from the output, else the input_ref; None if there is none to be had.

    Raises:
        UnstorableValue: the model has an entity key, and neither has it or it is no text or whole number.
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
    plain = _scalar(value)
    if isinstance(plain, bool) or not isinstance(plain, (str, int)):
        raise UnstorableValue(None, f"outputs.{key}", f"is a {type(value).__name__}, not an entity id")
    if isinstance(plain, int) and not -(2**63) <= plain < 2**64:
        raise UnstorableValue(None, f"outputs.{key}", "is an integer beyond 64 bits")
    return _checked_text(key, str(plain))


def _scalar(value: Any) -> Any:  # Any: what a model gave back
    """A numpy scalar as Python's own; what holds several values stays what it is."""
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
    """The score; None stays None.

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
    plain = _scalar(value)
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise UnstorableValue(entity, path, f"is a {type(value).__name__}, not a number")
    try:
        score = float(plain)
    except OverflowError as error:
        raise UnstorableValue(entity, path, "is beyond the range of a double") from error
    if not math.isfinite(score):
        raise UnstorableValue(entity, path, f"is not a finite number: {score}")
    return score


def row_encoder(model: ModelSpec) -> Callable[[int, Any], tuple[bytes, float | None]]:  # Any: as encode_row
    """`encode_row` for one model: what is the same for each row is looked up once."""
    entity_key, score_key = model.entity_key, model.score_key
    dumps, join = orjson.dumps, b"".join

    def encode_pair(number: int, pair: Any) -> tuple[bytes, float | None]:  # Any: what a model gave back
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
        found = output.get(score_key) if score_key is not None else None
        score = found if type(found) is float and isfinite(found) else score_of(model, entity, output)
        try:
            ref_text = dumps(input_ref, _plain, _OPTIONS)
            text = dumps(output, _plain, _OPTIONS)
        except (TypeError, ValueError, RecursionError):
            ref_text, text = b"null", b"null"  # `encode` names the place
        if len(ref_text) > MAX_JSON_BYTES or b"null" in ref_text or b"\\u0000" in ref_text:
            ref_text = encode(entity, "input_ref", input_ref)
        if len(text) > MAX_JSON_BYTES or b"null" in text or b"\\u0000" in text:
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
    pair: Any,  # Any: what a model gave back
) -> tuple[bytes, float | None]:
    """The fields entity_id, score, input_ref and outputs of one row as binary COPY wants them, and the score.

    Raises:
        UnstorableValue: something in it cannot be stored exactly.
    """
    return row_encoder(model)(number, pair)


def field(value: bytes | None) -> bytes:
    """One field of a binary COPY: its length, then its bytes; None is null."""
    return _NULL if value is None else _LENGTH(len(value)) + value
