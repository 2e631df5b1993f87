"""The values that stand in the registry, and what they are made of: all that reading a plan needs.

The values of runs are apart: each parse of a Dag file pays for every class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from airflow_detection.domain.scores import Events

MAX_ID_LENGTH = 64
"""Characters of a cycle id, a model id and a metric key; the columns are varchar(64)."""
MAX_URI_LENGTH = 2000
"""Characters of the URI of an artefact."""
MAX_SHARDS = 256
"""In how many shards a version may run."""
_NOT_PLAIN = re.compile(r"[{}\x00-\x1f\x7f-\x9f\u2028\u2029]")  # as in migration 0014
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ABSOLUTE = re.compile(r"/|[a-z][a-z0-9+.-]*:/")
_SECRET = re.compile(r"[^/]*//[^/@]*:[^/]*@")


class Role(StrEnum):
    """The part that a version has in its cycle."""

    PRIMARY = "PRIMARY"  # the champion: feeds models downstream, is what people act on
    SHADOW = "SHADOW"  # observed only
    CHALLENGER = "CHALLENGER"  # a shadow that is up for promotion


class Outcome(StrEnum):
    """How a version's run for one cycle ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"  # an upstream champion, or its own, has no result


class Mode(StrEnum):
    """Where the plan of a cycle comes from."""

    AS_OF = "as_of"  # the roles in force at the cycle, as known then
    AS_RUN = "as_run"  # the plan that was recorded when the cycle ran
    OVERRIDE = "override"  # named versions, as a replay


class Execution(StrEnum):
    """How a cycle's versions are run."""

    TASK = "task"  # one Airflow task each
    INLINE = "inline"  # the whole plan in one task


def require_utc(name: str, instant: datetime) -> datetime:
    """Return `instant` as a plain datetime in UTC; a naive one is a ValueError that names it.

    Subclasses (Airflow gives pendulum's) are not kept: their arithmetic may lose the time zone.
    """
    if instant.utcoffset() is None:
        raise ValueError(f"{name} has no time zone: {instant.isoformat()}")
    utc = instant.astimezone(UTC)
    return datetime.combine(utc.date(), utc.time(), tzinfo=UTC)


def require_id(name: str, value: str) -> str:
    """Return `value`; an empty or too long id is a ValueError that names it."""
    if not value or len(value) > MAX_ID_LENGTH:
        raise ValueError(f"{name} must have 1 to {MAX_ID_LENGTH} characters, not {len(value)}: {value!r}")
    return value


def require_plain(name: str, value: str) -> str:
    """Return an id or a version that is to be registered; one with a brace, which begins a template, or with
    a control character is a ValueError that names it. What was registered before is read all the same.
    """
    if _NOT_PLAIN.search(value):
        raise ValueError(f"{name} is {value!r}: must have no braces and no control characters")
    return value


@dataclass(frozen=True, slots=True)
class Window:
    """The half-open interval `[start, end)` of data that one cycle looks at, UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", require_utc("window start", self.start))
        object.__setattr__(self, "end", require_utc("window end", self.end))
        if self.start >= self.end:
            raise ValueError(f"window is empty: [{self.start.isoformat()}, {self.end.isoformat()})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """One instance of a recurring pass: `started_at` is the run's logical date, UTC."""

    cycle_id: str
    started_at: datetime
    lookback: timedelta

    def __post_init__(self) -> None:
        require_id("cycle_id", self.cycle_id)
        object.__setattr__(self, "started_at", require_utc("cycle_started_at", self.started_at))

    @property
    def window(self) -> Window:
        """`[started_at - lookback, started_at)`."""
        return Window(self.started_at - self.lookback, self.started_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleSettings:
    """What a cycle reads; kept as a history, so that a past cycle runs again as it was (see `CycleSpec`)."""

    lookback: timedelta
    input_query: str | None = None
    time_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleSpec:
    """A registered cycle; `schedule` is a cron expression in UTC, or with its time zone (see `domain.cron`).

    `deadline` has `after_s`, seconds after a run of its Dag was queued, and `callback`; empty: there is none.
    `time_key` names the column of the input query that holds a row's time (an instant, or seconds since
    1970): with it the manifests tell how fresh the inputs were.
    """

    cycle_id: str
    schedule: str
    lookback: timedelta
    input_query: str | None = None
    time_key: str | None = None
    legacy_entrypoint: str | None = None
    execution: Execution = Execution.TASK
    start_date: datetime
    max_active_runs: int = 1
    is_enabled: bool = True
    description: str = ""
    catchup: bool = False
    tags: tuple[str, ...] = ()
    owner: str = ""
    owner_links: Mapping[str, str] = field(default_factory=dict)
    default_args: Mapping[str, Any] = field(default_factory=dict)  # Any: a JSON object, read at the edge
    deadline: Mapping[str, Any] = field(default_factory=dict)  # Any: as above

    def at(self, started_at: datetime) -> Cycle:
        """The instance of this cycle at one instant."""
        return Cycle(cycle_id=self.cycle_id, started_at=started_at, lookback=self.lookback)

    def with_settings(self, settings: CycleSettings) -> CycleSpec:
        """The same cycle with the settings of another time."""
        return replace(
            self,
            lookback=settings.lookback,
            input_query=settings.input_query,
            time_key=settings.time_key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file that a version's model is made of, such as a trained one, and its sha256 in hex.

    A `uri` that ends with `/` is a folder: its sha256 is that of an archive (see `engine.artifact_files`).
    """

    uri: str
    sha256: str

    @classmethod
    def of(cls, values: Mapping[str, str] | None) -> Artifact | None:
        """Return the artefact of a JSON object; None of none."""
        return None if values is None else cls(**values)

    def __str__(self) -> str:
        return f"{self.uri} (sha256 {self.sha256[:12]})"


def artifact_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:  # Any: what a file says
    """Yield the key and the reason of each value of an artefact that cannot be registered."""
    known = tuple(Artifact.__dataclass_fields__)
    yield from ((key, f"unknown field; known: {', '.join(known)}") for key in values if key not in known)
    for key in known:
        value = values.get(key)
        if value is None:
            yield key, "is missing"
        elif not isinstance(value, str):
            yield key, "must be text; write it in quotes"
        elif key == "sha256" and not _SHA256.fullmatch(value):
            yield key, f"must be 64 hex digits in lower case, not {value!r}"
        elif key == "uri" and (reason := _uri_reason(value)):
            yield key, reason


def _uri_reason(uri: str) -> str | None:
    if len(uri) > MAX_URI_LENGTH:
        return f"must have at most {MAX_URI_LENGTH} characters, not {len(uri)}"
    if _NOT_PLAIN.search(uri):
        return f"is {uri!r}: must have no braces and no control characters"
    if _SECRET.match(uri):
        return "has a password: name an Airflow connection, as in s3://conn_id@bucket/key"
    if not _ABSOLUTE.match(uri):
        return f"is {uri!r}: must be an absolute path, or begin with a scheme such as s3://"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSpec:
    """One immutable configuration of a model, in the role it holds (or replays).

    `version_id` is the registry's key, 0 outside a database. `entrypoint` is resolved: the version's own,
    else the model's.
    """

    model_id: str
    version: str
    role: Role
    entrypoint: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)  # Any: a JSON object, read at the edge
    artifact: Artifact | None = None
    version_id: int = 0
    is_replay: bool = False

    @property
    def label(self) -> str:
        """`model@version`, as people write it."""
        return f"{self.model_id}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A registered model with the versions that are ACTIVE at the instant in question.

    `score_key` and `entity_key` name the entries of an output that become the plain columns `score` and
    `entity_id` (`entity_key` is also looked for in the input_ref). `promotion` has the conditions of a
    promotion that differ from their defaults, `event_gap` the longest time between two sightings of one
    event (an hour if None), and `events` the scores that make events (see `EventRule`): settings of today,
    which no recorded plan has.
    """

    model_id: str
    cycle_id: str = ""
    depends_on: tuple[str, ...] = ()
    versions: tuple[VersionSpec, ...] = ()
    entrypoint: str = ""
    score_key: str | None = None
    entity_key: str | None = None
    task_options: Mapping[str, Any] = field(default_factory=dict)  # Any: a JSON object, read at the edge
    is_enabled: bool = True
    promotion: Mapping[str, Any] = field(default_factory=dict)  # Any: a JSON object, read at the edge
    event_gap: timedelta | None = None
    events: Events = field(default_factory=dict)

    @property
    def shards(self) -> int:
        """In how many shards its versions run; 1, as a whole, where the option has no valid value."""
        count = self.task_options.get("shards")
        return count if type(count) is int and 1 <= count <= MAX_SHARDS else 1

    @property
    def primary(self) -> VersionSpec | None:
        """The champion, if there is one."""
        return next((v for v in self.versions if v.role is Role.PRIMARY), None)

    @property
    def shadows(self) -> tuple[VersionSpec, ...]:
        """SHADOW and CHALLENGER versions, in order of version."""
        return tuple(
            sorted((v for v in self.versions if v.role is not Role.PRIMARY), key=lambda v: v.version)
        )
