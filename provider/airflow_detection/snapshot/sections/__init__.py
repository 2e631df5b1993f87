"""The sections of the report, in the order in which they are shown."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import NoReturn

from airflow_detection.errors import EntryPointError
from airflow_detection.snapshot.section import BaseSection, Findings, Scope
from airflow_detection.snapshot.sections.comparisons import Comparisons
from airflow_detection.snapshot.sections.configuration import Configuration
from airflow_detection.snapshot.sections.cycles import Cycles
from airflow_detection.snapshot.sections.drift import Drift
from airflow_detection.snapshot.sections.events import Events
from airflow_detection.snapshot.sections.feed import Feed
from airflow_detection.snapshot.sections.gear import Gear
from airflow_detection.snapshot.sections.registry import RegistryChanges
from airflow_detection.snapshot.sections.scores import Scores
from airflow_detection.snapshot.sections.timings import Timings
from airflow_detection.snapshot.sections.upkeep import Upkeep
from airflow_detection.snapshot.sections.verdicts import Verdicts

ENTRY_POINT_GROUP = "airflow_detection.sections"
BUILT_IN: tuple[type[BaseSection], ...] = (
    Verdicts, Feed, Cycles, Timings, Scores, Comparisons, Events, Gear, Drift, RegistryChanges, Upkeep,
    Configuration,
)  # fmt: skip


def sections(
    further: Iterable[str] = (), *, allowed_prefixes: tuple[str, ...] = ()
) -> tuple[BaseSection, ...]:
    """The built-in sections, and behind them those that are named.

    Args:
        further: names of the entry-point group `airflow_detection.sections`, or `module:Class` under one of
            `allowed_prefixes`. One with the name of a built-in section takes its place.

    One that cannot be loaded is in the report, with the reason.
    """
    held: dict[str, BaseSection] = {made.name: made() for made in BUILT_IN}
    for entrypoint in further:
        try:
            made = load_section(entrypoint, allowed_prefixes)()
        except Exception as error:  # a section that cannot be made costs the others nothing: it says why
            made = Unloadable(entrypoint, error)
        held[made.name] = made
    return tuple(held.values())


class Unloadable(BaseSection):
    """Stands where a section that cannot be loaded would be."""

    name, title = "", ""

    def __init__(self, entrypoint: str, error: Exception) -> None:
        self.name = self.title = entrypoint  # type: ignore[misc]  # each of these has a name of its own
        self.error = error

    def query(self, scope: Scope) -> NoReturn:
        """Raise what was in the way of loading it."""
        del scope
        raise self.error

    def render(self, found: object, scope: Scope) -> Findings:
        """Not reached."""
        raise NotImplementedError


def load_section(entrypoint: str, allowed_prefixes: tuple[str, ...] = ()) -> type[BaseSection]:
    """Import a section class, from an allowed place only.

    Raises:
        EntryPointError: not allowed, not importable, or not a section.
    """
    path = entrypoint if ":" in entrypoint else _value_of_name(entrypoint)
    module, _, name = path.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise EntryPointError(entrypoint, "is not of the form module:Class")
    if path == entrypoint and not any(module == p or module.startswith(f"{p}.") for p in allowed_prefixes):
        raise EntryPointError(
            entrypoint, f"is not allowed: module {module!r} is under none of {list(allowed_prefixes)}"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise EntryPointError(entrypoint, f"cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, BaseSection) and vars(found).get("name")):
        raise EntryPointError(entrypoint, "is not a BaseSection with a name")
    return found


def _value_of_name(name: str) -> str:
    values = sorted({point.value for point in entry_points(group=ENTRY_POINT_GROUP, name=name)})
    if len(values) != 1:
        known = sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})
        raise EntryPointError(
            name, f"is no one name of entry-point group {ENTRY_POINT_GROUP!r}; known: {known}"
        )
    return values[0]
