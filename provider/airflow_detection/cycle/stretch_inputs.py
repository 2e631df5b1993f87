"""The input rows of neighbouring cycles, read once: their windows overlap."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.cycle.planning import OpenedCycle
from airflow_detection.cycle.versions import cycle_reader, read_inputs, window_reader
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.specs import Window
from airflow_detection.store.columns import ArrayColumns
from airflow_detection.store.database import Database
from airflow_detection.store.input_facts import with_profiles
from airflow_detection.store.window_filter import is_window_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StretchInputs:
    """The rows of a stretch of time, in the query's order, and the column that holds each row's time."""

    columns: ArrayColumns
    time_key: str

    def of(self, opened: OpenedCycle) -> Inputs:
        """Return the rows of a cycle in the stretch, as its input query gives them."""
        began = time.perf_counter()
        columns = self.columns.rows(self._is_in(opened.cycle.window))
        inputs = with_profiles(Inputs(columns), self.time_key)
        return replace(inputs, read_ms=(time.perf_counter() - began) * 1000)

    def _is_in(self, window: Window) -> NDArray[np.bool_]:
        column = self.columns.columns[self.time_key]
        start, end = (
            np.datetime64(at.replace(tzinfo=None), "us") if column.kind == "M" else np.float64(at.timestamp())
            for at in (window.start, window.end)
        )
        is_in: NDArray[np.bool_] = (column.data >= start) & (column.data < end)
        return is_in if column.is_null is None else is_in & ~column.is_null


def stretch_inputs(db: Database, stretch: Sequence[OpenedCycle]) -> StretchInputs | None:
    """Read the rows of cycles with the same settings at once; None where that might not give each its own.

    The plan of the query has to prove that it takes the rows in its window (see `store.window_filter`), and
    the last cycle's rows are read by themselves as well: they must have the same digest.

    Args:
        db: only reads.
        stretch: in order of time.

    Raises:
        TerminalModelError: the database refused the query, or its time column holds no times.
        RegistryUnavailable: the database did not answer.
    """
    first, last = stretch[0], stretch[-1]
    query, time_key = last.spec.input_query, last.spec.time_key
    if not query or time_key is None or len(stretch) == 1:
        return None
    whole = replace(last.cycle, lookback=last.cycle.started_at - first.cycle.window.start)
    reader = window_reader(db, whole, first.opened_at)
    names = reader.columns(query)
    if time_key not in names or not is_window_of(query, reader.plan(query), names, time_key, whole.window):
        return None
    columns = reader.read(query).columns
    if not isinstance(columns, ArrayColumns) or columns.columns[time_key].kind not in "fM":
        return None
    inputs = StretchInputs(columns, time_key)
    if inputs.of(last).digest == read_inputs(cycle_reader(db, last), last.spec).digest:
        return inputs
    log.warning("the input query orders rows of the same place by chance: each cycle's rows are read anew")
    return None
