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
BUILT_IN_SECTIONS: tuple[type[BaseSection], ...] = (
    Verdicts, Feed, Cycles, Timings, Scores, Comparisons, Events, Gear, Drift, RegistryChanges, Upkeep,
    Configuration,
)  # fmt: skip


def sections(
    further: Iterable[str] = (), *, allowed_prefixes: tuple[str, ...] = ()
) -> tuple[BaseSection, ...]:
    """Return the built-in sections, and behind them those that are named.

    Args:
        further: names of the entry-point group `airflow_detection.sections`, or `module:Class` under one of
            `allowed_prefixes`. One with the name of a built-in section takes its place.

    One that cannot be loaded is in the report, with the reason.
    """
    by_name: dict[str, BaseSection] = {
        section_class.name: section_class() for section_class in BUILT_IN_SECTIONS
    }
    for entrypoint in further:
        try:
            section = load_section(entrypoint, allowed_prefixes)()
        except Exception as error:  # it takes the place of the section, and the others are not affected
            section = UnloadableSection(entrypoint, error)
        by_name[section.name] = section
    return tuple(by_name.values())


class UnloadableSection(BaseSection):
    """Placeholder of a section that cannot be loaded; its query raises the error."""

    name, title = "", ""

    def __init__(self, entrypoint: str, error: Exception) -> None:
        self.name = self.title = entrypoint  # type: ignore[misc]  # each of these has a name of its own
        self.error = error

    def query(self, scope: Scope) -> NoReturn:
        """Raise the error that loading the section raised."""
        del scope
        raise self.error

    def render(self, data: object, scope: Scope) -> Findings:
        """Raise NotImplementedError: `query` raises, so there is nothing to render."""
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
