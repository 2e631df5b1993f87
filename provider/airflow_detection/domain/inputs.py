"""The rows that a cycle's models read, and the outputs that they give."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from airflow_detection.domain.json_values import JsonMapping, frozen
from airflow_detection.domain.reports import FeatureProfile
from airflow_detection.domain.scores import SCORE_RANGE

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Columns(Mapping[str, tuple[Any, ...]]):  # Any: what the input query selects
    """Columns that are kept as arrays, read-only; values are made of them where these are asked for."""

    row_count: int

    @abstractmethod
    def array(self, name: str) -> NDArray[Any]:  # Any: as `Inputs.array`
        """Return one column as `Inputs.array` does."""

    @abstractmethod
    def distinct(self, name: str) -> set[Any]:  # Any: what the input query selects
        """Return the values of one column, each once; null is None."""

    @abstractmethod
    def with_tail(self, tail: Mapping[str, tuple[Any, ...]]) -> Self:  # Any: what the input query selects
        """Return these columns with the values of `tail`, which has the same names, behind them."""

    @abstractmethod
    def digest(self) -> str:
        """Return a digest of the columns, which says of which kind it is."""

    @abstractmethod
    def slices(self) -> Iterator[tuple[tuple[Any, ...], ...]]:  # Any: what the input query selects
        """Iterate over tuples of columns, some thousand rows each."""


@dataclass(frozen=True, slots=True)
class MaterializedOutputs:
    """Outputs that a model has computed already, in `duration_ms`: only storing them is left to do."""

    pairs: Iterable[tuple[JsonMapping, JsonMapping]]
    duration_ms: float

    def __iter__(self) -> Iterator[tuple[JsonMapping, JsonMapping]]:
        return iter(self.pairs)


@dataclass(frozen=True, slots=True)
class SelectedOutputs:
    """Outputs that one SELECT gives: a store may run it where the rows are.

    Its columns are `entity`, `score` and `outputs`; scores are within `score_range`. Iterated over, they are
    read with `query` and go through this process.
    """

    statement: str
    params: JsonMapping
    query: Callable[[str, JsonMapping], Inputs]
    score_range: tuple[float, float] = SCORE_RANGE

    def __iter__(self) -> Iterator[tuple[JsonMapping, JsonMapping]]:
        for row in self.query(self.statement, self.params).rows():
            score = None if row["score"] is None else float(row["score"])  # numeric is a Decimal here
            entity = None if row["entity"] is None else str(row["entity"])
            yield {"entity": entity}, {**row["outputs"], "score": score}


@dataclass(frozen=True, slots=True)
class Inputs:
    """The cycle's input rows, by column; all columns have the same length and are read-only.

    `digest`, `newest_at` and `newest` are facts of the rows that go into the manifest, where they are known;
    `newest` are profiles of the rows that came last. `time_key` is the column that holds each row's time.
    `read_ms` is how long they took to be read, milliseconds.
    """

    columns: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # Any: what the input query selects
    digest: str | None = None
    newest_at: datetime | None = None
    newest: tuple[FeatureProfile, ...] = ()
    time_key: str | None = None
    read_ms: float | None = None

    @classmethod
    def of_rows(cls, rows: Iterable[JsonMapping], names: Sequence[str] = ()) -> Inputs:
        """Make inputs of mappings; a key that a row lacks is null. `names` sets columns and their order."""
        mappings = list(rows)
        keys = tuple(names) or tuple(dict.fromkeys(key for row in mappings for key in row))
        return cls(MappingProxyType({n: tuple(frozen(row.get(n)) for row in mappings) for n in keys}))

    def __len__(self) -> int:
        if isinstance(self.columns, Columns):
            return self.columns.row_count
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> tuple[Any, ...]:
        """One column, in row order; KeyError if the input query does not select it."""
        return self.columns[name]

    def array(self, name: str) -> NDArray[Any]:  # Any: see below
        """Return one column as a read-only numpy array, in row order; without a copy where it is kept as one.

        Whole numbers are int64, or float64 where some are null; other numbers are float64, with NaN for null;
        truth values without null are bool; instants are datetime64[us] in UTC, with NaT for null; all else is
        of dtype object, with None for null.

        Raises:
            KeyError: the input query does not select the column.
        """
        return self.columns.array(name) if isinstance(self.columns, Columns) else array_of(self.columns[name])

    def feature(self, name: str) -> Iterable[Any]:  # Any: numbers or values
        """Return one column to profile: its array of numbers if it is kept as one, else its values."""
        is_numbers = isinstance(self.columns, Columns) and self.array(name).dtype.kind in "if"
        return self.array(name) if is_numbers else self[name]

    def seconds(self, name: str) -> NDArray[Any] | None:  # Any: float64, int64
        """Return times kept as an array, in seconds since 1970, NaN for null; None if they are not."""
        if not isinstance(self.columns, Columns):
            return None
        array = self.array(name)
        if array.dtype.kind == "M":
            seconds: NDArray[Any] = array.astype("int64") / 1e6
            seconds[array != array] = math.nan
            return seconds
        return array if array.dtype.kind in "if" else None

    def distinct(self, name: str) -> set[Any]:  # Any: what the input query selects
        """Return the values of one column, each once; empty if there is no such column."""
        if isinstance(self.columns, Columns):
            return self.columns.distinct(name) if name in self.columns else set()
        return set(self.columns.get(name, ()))

    def rows(self) -> Iterator[JsonMapping]:
        """Iterate over the rows as mappings."""
        columns = self.columns
        names = tuple(columns)
        for part in columns.slices() if isinstance(columns, Columns) else (tuple(columns.values()),):
            for values in zip(*part, strict=True):
                yield MappingProxyType(dict(zip(names, values, strict=True)))

    def with_rows(self, rows: Iterable[JsonMapping]) -> Inputs:
        """These inputs with `rows` behind them; columns that a row lacks are null there."""
        extra = Inputs.of_rows(rows, tuple(self.columns))
        if not self.columns or not len(extra):
            return self if not len(extra) else Inputs.of_rows(extra.rows())
        if isinstance(self.columns, Columns):
            return Inputs(self.columns.with_tail(extra.columns))
        return Inputs(MappingProxyType({n: c + extra.columns[n] for n, c in self.columns.items()}))


def array_of(values: Sequence[Any]) -> NDArray[Any]:  # Any: what the input query selects
    """Return values as an array of the kinds that `Inputs.array` names."""
    import numpy as np  # where a model asks for it

    array: NDArray[Any]
    kinds = set(map(type, values))
    known = kinds - {type(None)}
    if known <= {int, float} and kinds:
        whole = np.int64 if kinds == {int} else np.float64
        try:
            array = np.array(values, dtype=whole)
        except OverflowError:  # beyond 64 bits
            array = _objects(values)
    elif kinds == {bool}:
        array = np.array(values, dtype=np.bool_)
    elif known == {datetime} and all(v is None or v.tzinfo is not None for v in values):
        utc = [None if v is None else v.astimezone(UTC).replace(tzinfo=None) for v in values]
        array = np.array(utc, dtype="datetime64[us]")
    else:
        array = _objects(values)
    array.flags.writeable = False
    return array


def _objects(values: Sequence[Any]) -> NDArray[Any]:  # Any: what the input query selects
    import numpy as np

    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return array
