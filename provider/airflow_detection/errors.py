"""Every error of the package, in one tree.

DetectionError
├── ConfigurationError          a setting is missing or malformed
├── RegistrationError           a registration is not valid
│   ├── UnknownUpstream
│   ├── DependencyLoop
│   └── EntryPointError         not allowed, not importable, or not a model
├── PlanError                   no plan can be given for this cycle
│   └── NotInPlan               the cycle was planned without this version
├── ModelError                  a model could not do its work
│   ├── TerminalModelError      trying again will not help
│   │   ├── NotAnUpstream       it reads a model that it does not depend on
│   │   └── ArtifactError       its artefact is not what was registered, or cannot be used
│   └── TransientModelError     trying again may help
│       └── ArtifactUnavailable where its artefact is kept does not answer
├── StorageError
│   ├── UnstorableValue         a value that Postgres or JSON cannot hold
│   ├── StaleAttempt            a newer attempt has already written
│   ├── MissingPartition        no table partition for that month or day
│   └── ExpiredPartition        retention has removed that month or day
├── RegistryUnavailable         the registry's database did not answer; trying again may help
│   ├── RegistryBusy            another session held a lock for too long
│   └── ClockBehind             its clock is behind what has been planned, or is to be
├── EventError                  an event cannot be acknowledged or closed
├── MigrationError
└── InputFileError              a file that was to be loaded is not what it should be

The values of an error are attributes and go unformatted to `Exception.__init__`, so that every error survives
pickle.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime

MAX_NAMES = 20


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like an unknown one, whatever its case; None if none is."""
    by_case = {candidate.casefold(): candidate for candidate in sorted(known)}
    close = difflib.get_close_matches(name.casefold(), by_case, n=1)
    return by_case[close[0]] if close else None


def hint(name: str, known: Iterable[str]) -> str:
    """Return the end of an unknown name's error: `; the nearest name is 'x'`, `; known: ...` or nothing."""
    names = sorted(known)
    close = nearest(name, names)
    if close is not None:
        return f"; the nearest name is {close!r}"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= MAX_NAMES else ""


class DetectionError(Exception):
    """The root of the tree."""


class ConfigurationError(DetectionError):
    """A setting is missing or malformed."""


class RegistrationError(DetectionError):
    """A registration is not valid."""


class PromotionError(RegistrationError):
    """A promotion cannot be asked for, or cannot go on."""


class EventError(DetectionError):
    """An event cannot be acknowledged or closed: there is none of this number, or it is not open."""


class UnknownUpstream(RegistrationError):
    """A model depends on one that is not registered for its cycle."""

    def __init__(self, model_id: str, upstream: str, nearest: str | None = None) -> None:
        super().__init__(model_id, upstream, nearest)
        self.model_id, self.upstream, self.nearest = model_id, upstream, nearest

    def __str__(self) -> str:
        hint = f"; the nearest name is {self.nearest!r}" if self.nearest else ""
        return f"model {self.model_id!r} depends on {self.upstream!r}, which is not registered{hint}"


class DependencyLoop(RegistrationError):
    """Models depend on each other in a loop; `path` starts and ends with the same model."""

    def __init__(self, path: Sequence[str]) -> None:
        super().__init__(tuple(path))
        self.path = tuple(path)

    def __str__(self) -> str:
        return f"dependency loop: {' -> '.join(self.path)}"


class EntryPointError(RegistrationError):
    """An entry point is not allowed, cannot be imported, or is not a model."""

    def __init__(self, entrypoint: str, reason: str) -> None:
        super().__init__(entrypoint, reason)
        self.entrypoint, self.reason = entrypoint, reason

    def __str__(self) -> str:
        return f"entry point {self.entrypoint!r} {self.reason}"


class PlanError(DetectionError):
    """No plan can be given for this cycle."""


class NotInPlan(PlanError):
    """A registered version that this cycle's plan does not have, such as one that was registered later."""


class ModelError(DetectionError):
    """A model could not do its work."""


class TerminalModelError(ModelError):
    """Trying again will not help: the task fails without a retry."""


class NotAnUpstream(TerminalModelError, KeyError):
    """A model reads the outputs of one that is not in its `depends_on`; `known` are those that are."""

    def __init__(self, model_id: str, upstream: str, known: Sequence[str]) -> None:
        super().__init__(model_id, upstream, tuple(known))
        self.model_id, self.upstream, self.known = model_id, upstream, tuple(known)

    def __str__(self) -> str:
        known = f"it has {', '.join(self.known)}" if self.known else "it is empty"
        return (
            f"model {self.model_id!r} reads ctx.shared[{self.upstream!r}], which its depends_on in the"
            f" registration does not have: {known}"
        )


class TransientModelError(ModelError):
    """Trying again may help: the task is retried."""


class ArtifactError(TerminalModelError):
    """An artefact is not what was registered, or cannot be used."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(uri, reason)
        self.uri, self.reason = uri, reason

    def __str__(self) -> str:
        return f"artefact {self.uri!r} {self.reason}"


class ArtifactUnavailable(TransientModelError):
    """The place where an artefact is kept does not answer."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(uri, reason)
        self.uri, self.reason = uri, reason

    def __str__(self) -> str:
        return f"artefact {self.uri!r} cannot be read: {self.reason}"


class StorageError(DetectionError):
    """A result could not be stored."""


class UnstorableValue(StorageError):
    """An output holds a value that cannot be stored exactly.

    `path` is the place inside the output, such as `outputs.evidence[2].speed`.
    """

    def __init__(self, entity: str | None, path: str, reason: str) -> None:
        super().__init__(entity, path, reason)
        self.entity, self.path, self.reason = entity, path, reason

    def __str__(self) -> str:
        return f"output of entity {self.entity!r} cannot be stored: {self.path} {self.reason}"


class StaleAttempt(StorageError):
    """An older attempt finished after a newer one had written; nothing was changed."""

    def __init__(self, attempt: int, newest: int) -> None:
        super().__init__(attempt, newest)
        self.attempt, self.newest = attempt, newest

    def __str__(self) -> str:
        return f"attempt {self.attempt} is older than attempt {self.newest}, which has already written"


class MissingPartition(StorageError):
    """No table partition holds this instant."""

    def __init__(self, table: str, instant: datetime) -> None:
        super().__init__(table, instant)
        self.table, self.instant = table, instant

    def __str__(self) -> str:
        return f"table {self.table!r} has no table partition for {self.instant:%Y-%m-%d}"


class ExpiredPartition(StorageError):
    """Retention has removed this month or day."""

    def __init__(self, table: str, instant: datetime) -> None:
        super().__init__(table, instant)
        self.table, self.instant = table, instant

    def __str__(self) -> str:
        return (
            f"table {self.table!r}: the table partition for {self.instant:%Y-%m-%d} was removed by retention;"
            " 'airflow detection partitions apply --recreate-expired' makes it anew"
        )


class RegistryUnavailable(DetectionError):
    """The registry's database did not answer."""


class RegistryBusy(RegistryUnavailable):
    """Another session held a lock for too long."""


class ClockBehind(RegistryUnavailable):
    """The registry's clock is behind a cycle: it will catch up, or has to be set."""


class MigrationError(DetectionError):
    """The database and the migrations of this version do not fit together."""


class InputFileError(DetectionError):
    """A file that was to be loaded is not what it should be."""
