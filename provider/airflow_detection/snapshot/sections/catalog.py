"""The sections of the report, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from airflow_detection.engine.entrypoints import load_object
from airflow_detection.errors import EntryPointError
from airflow_detection.snapshot.section import BaseSection, Findings, Scope
from airflow_detection.snapshot.sections.comparisons import Comparisons
from airflow_detection.snapshot.sections.configuration import Configuration
from airflow_detection.snapshot.sections.cycles import Cycles
from airflow_detection.snapshot.sections.drift import Drift
from airflow_detection.snapshot.sections.events import Events
from airflow_detection.snapshot.sections.feed import Feed
from airflow_detection.snapshot.sections.gear import Gear
from airflow_detection.snapshot.sections.registry_changes import RegistryChanges
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
    loaded = load_object(entrypoint, allowed_prefixes, group=ENTRY_POINT_GROUP)
    if not (isinstance(loaded, type) and issubclass(loaded, BaseSection) and vars(loaded).get("name")):
        raise EntryPointError(entrypoint, "is not a BaseSection with a name")
    return loaded
