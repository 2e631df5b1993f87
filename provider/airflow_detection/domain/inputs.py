"""The rows that a cycle's models read, and the outputs that they give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from airflow_detection.domain.json_values import JsonMapping, frozen
from airflow_detection.domain.reports import FeatureProfile
from airflow_detection.domain.scores import SCORE_RANGE


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
    """

    columns: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # Any: what the input query selects
    digest: str | None = None
    newest_at: datetime | None = None
    newest: tuple[FeatureProfile, ...] = ()
    time_key: str | None = None

    @classmethod
    def of_rows(cls, rows: Iterable[JsonMapping], names: Sequence[str] = ()) -> Inputs:
        """Make inputs of mappings; a key that a row lacks is null. `names` sets columns and their order."""
        mappings = list(rows)
        keys = tuple(names) or tuple(dict.fromkeys(key for row in mappings for key in row))
        return cls(MappingProxyType({n: tuple(frozen(row.get(n)) for row in mappings) for n in keys}))

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> tuple[Any, ...]:
        """One column, in row order; KeyError if the input query does not select it."""
        return self.columns[name]

    def rows(self) -> Iterator[JsonMapping]:
        """Iterate over the rows as mappings."""
        names = tuple(self.columns)
        for values in zip(*self.columns.values(), strict=True):
            yield MappingProxyType(dict(zip(names, values, strict=True)))

    def with_rows(self, rows: Iterable[JsonMapping]) -> Inputs:
        """These inputs with `rows` behind them; columns that a row lacks are null there."""
        extra = Inputs.of_rows(rows, tuple(self.columns))
        if not self.columns or not len(extra):
            return self if not len(extra) else Inputs.of_rows(extra.rows())
        return Inputs(MappingProxyType({n: c + extra.columns[n] for n, c in self.columns.items()}))
