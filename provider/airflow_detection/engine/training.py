"""The contract of a training step: what a version may learn from, and what it makes of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.specs import Cycle, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingWindow:
    """One past cycle: the rows that its models read, and what was true of their entities.

    `labels` tells whether an entity was positive in this cycle, by its id, as known at `as_of` of the
    training; an entity that is missing there has no label.
    """

    cycle: Cycle
    inputs: Inputs
    labels: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingContext:
    """Context of one training: everything in it is read-only, and was known at `as_of` (UTC).

    `windows` are those of cycles within `interval`, ascending, none of which overlaps another. Each is read
    from the database when it is asked for, anew each time: keep of it what you need. `params` are those of
    the new version. Draw at random from `seed` alone, so that the same training gives the same artefact.
    """

    params: JsonMapping = field(default_factory=dict)
    interval: Window
    as_of: datetime
    windows: Iterable[TrainingWindow] = ()
    seed: int = 1
    log: logging.Logger | logging.LoggerAdapter[logging.Logger] = field(
        default_factory=lambda: logging.getLogger("airflow_detection.model")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """What a training step has made.

    Args:
        files: the content of the artefact's files, by name.
        canaries: rows of which the output is known, which become `canaries.json` beside them.
        metrics: numbers that tell how good it is, kept in the registry with its lineage.
    """

    files: Mapping[str, bytes]
    canaries: Sequence[JsonMapping] = ()
    metrics: Mapping[str, float | int | None] = field(default_factory=dict)
