"""Columns of a query's result, kept as numpy arrays: a cycle's inputs at size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from airflow_detection.domain.inputs import Columns, array_of
from airflow_detection.store.floats import shortest_doubles

AnyArray = NDArray[Any]  # Any: numbers, truth values, instants or bytes
Values = tuple[Any, ...]  # Any: what a query selects

DIGEST_KIND = "columns-1:"
"""Prefix of a digest of arrays: one without it is of JSON, and the two cannot be compared."""

SLICE_ROWS = 10_000
"""Rows that are made into values at a time."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ArrayColumn:
    """Column of a query's result.

    Args:
        data: a value a row (bool, int64, float64, float32 whose values are their shortest decimals, or
            datetime64[us] in UTC; what stands for a null has no meaning); of texts all their bytes, uint8.
        ends: where each text ends in `data`; a null has no bytes.
        is_null: True for each null; None without nulls.
        load: makes a value of the text that the server wrote; None where the text is the value.
        oid: the type that `load` is for.
    """

    data: AnyArray
    ends: NDArray[np.int64] | None = None
    is_null: NDArray[np.bool_] | None = None
    load: Callable[[bytes], Any] | None = None  # Any: what a query selects
    oid: int | None = None

    def __post_init__(self) -> None:
        for array in (self.data, self.ends, self.is_null):
            if array is not None:
                array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.data if self.ends is None else self.ends)

    @property
    def size(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in (self.data, self.ends, self.is_null) if array is not None)

    @property
    def kind(self) -> str:
        """`b`, `i`, `f` or `M` as numpy names kinds of values; `O` for texts."""
        return self.data.dtype.kind if self.ends is None else "O"

    def values(self, start: int = 0, stop: int | None = None) -> Values:
        """Return the values of some rows, as the driver gives them."""
        rows = slice(start, len(self) if stop is None else stop)
        if self.ends is not None:
            found = self._texts(self.ends, rows)
        else:
            found = _doubles(self.data[rows]).tolist()
            if self.kind == "M":
                found = [None if value is None else value.replace(tzinfo=UTC) for value in found]
        if self.is_null is not None:
            for row in np.flatnonzero(self.is_null[rows]).tolist():
                found[row] = None
        return tuple(found)

    def array(self) -> AnyArray:
        """Return the column as `Inputs.array` does."""
        if self.kind == "O" or (self.kind == "b" and self.is_null is not None):
            return array_of(self.values())
        array = _doubles(self.data)
        if self.is_null is not None:
            array = array.astype(np.float64 if self.kind == "i" else array.dtype)
            array[self.is_null] = "NaT" if self.kind == "M" else np.nan
        array.flags.writeable = False
        return array

    def known(self) -> AnyArray:
        """Return the values that are not null, of a column that holds no texts."""
        return self.data if self.is_null is None else self.data[~self.is_null]

    def take(self, is_taken: NDArray[np.bool_]) -> ArrayColumn:
        """Return some rows; numbers of single precision are doubles then."""
        is_null = None if self.is_null is None else self.is_null[is_taken]
        if self.ends is None:
            return ArrayColumn(data=_doubles(self.data[is_taken]), is_null=is_null)
        sizes = np.diff(self.ends, prepend=0)
        kept = sizes[is_taken]
        ends = np.cumsum(kept)
        total = int(ends[-1]) if len(ends) else 0
        index = np.repeat((self.ends - sizes)[is_taken] - (ends - kept), kept) + np.arange(total)
        return ArrayColumn(data=self.data[index], ends=ends, is_null=is_null, load=self.load, oid=self.oid)

    def rows(self, is_taken: NDArray[np.bool_]) -> ArrayColumn:
        """Return some rows as a query of them alone gives the column."""
        taken = self.take(is_taken)
        if self.ends is None:
            taken = replace(taken, data=self.data[is_taken], oid=self.oid)
        has_nulls = taken.is_null is not None and bool(taken.is_null.any())
        return taken if has_nulls else replace(taken, is_null=None)

    def distinct(self) -> set[Any]:  # Any: what a query selects
        """Return the values, each once; null is None."""
        if self.kind == "O":
            return set(self.values())
        values = set(ArrayColumn(data=np.unique(self.known())).values())
        return values if self.is_null is None else {*values, None}

    def feed(self, digest: Any) -> None:  # Any: hashlib has no public type
        """Add the column's length and values to a digest."""
        nulls = b"" if self.is_null is None else np.packbits(self.is_null).tobytes()
        digest.update(orjson.dumps([self.kind, len(self), len(nulls)]) + nulls)
        if self.ends is not None:
            digest.update(self.ends)
            digest.update(self.data)
        else:
            digest.update(np.ascontiguousarray(self.known()).view(np.uint8))

    def _texts(self, ends: NDArray[np.int64], rows: slice) -> list[Any]:  # Any: what a query selects
        if rows.start >= rows.stop:
            return []
        first = int(ends[rows.start - 1]) if rows.start else 0
        text = self.data[first : ends[rows.stop - 1]].tobytes()
        bounds = pairwise([0, *(ends[rows] - first).tolist()])
        if (load := self.load) is not None:
            pieces = (text[start:stop] for start, stop in bounds)
            if self.is_null is None:
                return list(map(load, pieces))
            nulls = self.is_null[rows].tolist()
            return [None if is_null else load(p) for p, is_null in zip(pieces, nulls, strict=True)]
        if text.isascii():
            decoded = text.decode("ascii")
            return [decoded[start:stop] for start, stop in bounds]
        return [text[start:stop].decode() for start, stop in bounds]


def _doubles(data: AnyArray) -> AnyArray:
    """Return numbers of single precision as the doubles that they are written as; others as they are."""
    return shortest_doubles(data) if data.dtype == np.float32 else data


class ArrayColumns(Columns):
    """Columns that are kept as arrays; canaries' rows, as values, may be behind them.

    Whole columns of values are made where they are asked for, and then kept.
    """

    def __init__(
        self, columns: Mapping[str, ArrayColumn], row_count: int, tail: Mapping[str, Values] | None = None
    ) -> None:
        self.columns, self._tail = MappingProxyType(dict(columns)), tail or {}
        self._stored = row_count
        self.row_count = row_count + len(next(iter(self._tail.values()), ()))
        self._arrays: dict[str, AnyArray] = {}
        self._values: dict[str, Values] = {}
        self._joined: dict[str, Values] = {}
        for name, column in columns.items():
            if column.load is not None:  # what cannot be read is an error of the query, not of a model
                self._values[name] = column.values()

    def __getitem__(self, name: str) -> Values:
        if name not in self._values:
            self._values[name] = self.columns[name].values()
        if not self._tail:
            return self._values[name]
        if name not in self._joined:
            self._joined[name] = self._values[name] + self._tail[name]
        return self._joined[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def array(self, name: str) -> AnyArray:
        """Return one column as `Inputs.array` does."""
        if name not in self._arrays:
            self._arrays[name] = self._array(self.columns[name], name)
        return self._arrays[name]

    def _array(self, column: ArrayColumn, name: str) -> AnyArray:
        array = column.array() if column.load is None else array_of(self._values[name])
        if not self._tail:
            return array
        tail = array_of(self._tail[name])
        if array.dtype != tail.dtype and {array.dtype.kind, tail.dtype.kind} != {"i", "f"}:
            return array_of(self[name])
        joined = np.concatenate([array, tail])
        joined.flags.writeable = False
        return joined

    def distinct(self, name: str) -> set[Any]:  # Any: what a query selects
        """Return the values of one column, each once; null is None."""
        return self.columns[name].distinct() | set(self._tail.get(name, ()))

    def with_tail(self, tail: Mapping[str, Values]) -> Self:
        """Return these columns with the values of `tail` behind them."""
        joined = {name: (*self._tail.get(name, ()), *values) for name, values in tail.items()}
        return type(self)(self.columns, self._stored, joined)

    def rows(self, is_taken: NDArray[np.bool_]) -> ArrayColumns:
        """Return some rows, of columns without a tail, as a query of them alone gives them."""
        columns = {name: column.rows(is_taken) for name, column in self.columns.items()}
        return ArrayColumns(columns, int(is_taken.sum()))

    def slices(self) -> Iterator[tuple[Values, ...]]:
        """Iterate over tuples of columns, some thousand rows each."""
        for start in range(0, self._stored, SLICE_ROWS):
            stop = min(start + SLICE_ROWS, self._stored)
            yield tuple(
                self._values[name][start:stop] if name in self._values else column.values(start, stop)
                for name, column in self.columns.items()
            )
        if self._tail:
            yield tuple(self._tail[name] for name in self.columns)

    @property
    def size(self) -> int:
        """Bytes of the arrays."""
        return sum(column.size for column in self.columns.values())

    def digest(self) -> str:
        """Return the sha256 of the columns behind DIGEST_KIND, which tells it from one of JSON."""
        digest = hashlib.sha256()
        for name, column in self.columns.items():
            digest.update(orjson.dumps([name]))
            column.feed(digest)
        return DIGEST_KIND + digest.hexdigest()
