"""The keys of a registration file: what reads them, what bounds them, and what people are told of them.

The reader (`file.py`), the JSON Schema (`schema.py`) and the reference (`docs/registration.py`) follow from
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_detection.domain.cron import MAX_CHARS
from airflow_detection.domain.scores import LEAST_ABOVE
from airflow_detection.domain.specs import MAX_ID_LENGTH, MAX_URI_LENGTH, Execution, Role
from airflow_detection.store.registry import MAX_LOOKBACK

Schema = Mapping[str, Any]  # Any: a JSON Schema
FIRST_YEAR, LAST_YEAR = 1900, 2999
MAX_TAG_LENGTH = 100
"""Characters of a tag of a Dag, in Airflow's own table."""
MODEL_ID = "[a-z0-9_.-]+"
VERSION = r"[^@,\s]{1,64}"

ID_SCHEMA: Schema = {
    "minLength": 1,
    "maxLength": MAX_ID_LENGTH,
    "pattern": r"^[^{}\u0000-\u001f\u007f-\u009f\u2028\u2029]*$",
}
MODEL_ID_SCHEMA: Schema = {"minLength": 1, "maxLength": MAX_ID_LENGTH, "pattern": f"^{MODEL_ID}$"}
VERSION_SCHEMA: Schema = {"minLength": 1, "maxLength": MAX_ID_LENGTH, "pattern": r"^[^@,{}\s]+$"}


@dataclass(frozen=True, slots=True)
class ValueKind:
    """Kind of value: the method of `ValueReader` that reads it, its bounds in words, and its JSON Schema."""

    reader: str
    bounds: str
    schema: Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key; `default` is shown where it is not the default of the value that the key becomes."""

    name: str
    kind: ValueKind
    means: str
    example: str
    default: str | None = None
    is_required: bool = False


_DATE = r"(19|2[0-9])[0-9]{2}-?([0-9]{2}-?[0-9]{2}|W[0-9]{2}(-?[0-9])?)"
_TIME = r"[0-9]{2}(:?[0-9]{2}(:?[0-9]{2}([.,][0-9]+)?)?)?"
_NAME = "[A-Za-z_][A-Za-z0-9_]*"

CRON = ValueKind(
    "cron",
    f"a cron expression of five fields, or an alias such as `@hourly`; at most {MAX_CHARS} characters",
    {"type": "string", "maxLength": MAX_CHARS, "pattern": r"^\s*(@\S+|\S+(\s+\S+){4})\s*$"},
)
DURATION = ValueKind(
    "duration",
    f"a whole number with s, m, h, d or w: above 0, at most {MAX_LOOKBACK.days} days",
    {"type": "string", "pattern": r"^(?=.*[1-9])[0-9]{1,9}\s*[smhdw]$"},
)
INSTANT = ValueKind(
    "instant",
    f"a date, or an ISO 8601 instant with its time zone; years {FIRST_YEAR} to {LAST_YEAR}",
    {"type": "string", "pattern": rf"^{_DATE}(.{_TIME}(Z|[+-]{_TIME}))?$"},
)
COUNT = ValueKind(
    "count", "a whole number, 1 to 2147483647", {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
)
ZONE = ValueKind("zone", "the IANA name of a time zone", {"type": "string"})
TAGS = ValueKind(
    "texts",
    f"a list of texts of 1 to {MAX_TAG_LENGTH} characters",
    {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": MAX_TAG_LENGTH}},
)
FLAG = ValueKind("flag", "true or false", {"type": "boolean"})
TEXT = ValueKind("text", "text", {"type": "string"})
ENTRYPOINT = ValueKind(
    "entrypoint",
    "a name of the entry-point group `airflow_detection.models`, or `module:Class` of an allowed module",
    {"type": "string", "pattern": rf"^([A-Za-z_][A-Za-z0-9_-]*|{_NAME}(\.{_NAME})*:{_NAME})$"},
)
FUNCTION = ValueKind(
    "function",
    "`module:function` of an allowed module",
    {"type": "string", "pattern": rf"^{_NAME}(\.{_NAME})*:{_NAME}$"},
)
EXECUTION = ValueKind("execution", "`task` or `inline`", {"enum": [*Execution]})
ROLE = ValueKind("role", "`PRIMARY`, `SHADOW` or `CHALLENGER`; one PRIMARY a model", {"enum": [*Role]})
CYCLE_ID = ValueKind("text", "the id of a cycle, in the file or registered", {"type": "string"})
MODEL_IDS = ValueKind(
    "names",
    "a list of model ids of the same cycle, without a loop",
    {"type": "array", "items": {"type": "string"}},
)
LINK = r"^(https?://[^\s/]|mailto:[^\s@]+@[^\s@])\S*$"
LINKS = ValueKind(
    "links",
    "a mapping of owners to addresses that begin with https://, http:// or mailto:",
    {"type": "object", "additionalProperties": {"type": "string", "pattern": LINK}},
)
DEFAULT_ARGS = ValueKind("default_args", "a mapping, see [default_args](#default_args)", {"type": "object"})
DEADLINE = ValueKind("deadline", "a mapping, see [deadline](#deadline)", {"type": "object"})
JSON_OBJECT = ValueKind("json_object", "a mapping of JSON values", {"type": "object"})
TASK_OPTIONS = ValueKind("task_options", "a mapping, see [task_options](#task_options)", {"type": "object"})
EVENTS = ValueKind(
    "events",
    f"`false`, or a mapping of `above` (a number, at least {LEAST_ABOVE:g}) and `severity` (numbers that"
    " rise, for MEDIUM, HIGH and CRITICAL)",
    {"type": ["object", "boolean"], "not": {"const": True}},
)
ARTIFACT = ValueKind(
    "artifact",
    f"a mapping of `uri` (a path from `/` on, or with a scheme; at most {MAX_URI_LENGTH} characters) and"
    " `sha256` (64 hex digits)",
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["uri", "sha256"],
        "properties": {
            "uri": {
                "type": "string",
                "maxLength": MAX_URI_LENGTH,
                "pattern": r"^(/|[a-z][a-z0-9+.-]*:/)[^{}\u0000-\u001f\u007f-\u009f\u2028\u2029]*$",
                "not": {"pattern": "^[^/]*//[^/@]*:[^/]*@"},
            },
            "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        },
    },
)
PROMOTION = ValueKind("promotion", "a mapping, see [promotion](#promotion)", {"type": "object"})

DEADLINE_KEYS = (
    Key(
        name="after",
        kind=DURATION,
        is_required=True,
        means="How long after it was queued a run of the Dag, live or past, is late.",
        example="4m",
    ),
    Key(
        name="callback",
        kind=FUNCTION,
        is_required=True,
        means="What is called then, with `context=`, a mapping that has `dag_run` and `deadline`: a coroutine"
        " function in the triggerer, any other in an executor.",
        example="your_package.alerts:is_late",
    ),
)

VERSION_KEYS = (
    Key(
        name="role",
        kind=ROLE,
        default="none: registered, and does not run",
        means="The role that the version holds from now on, or from `since`.",
        example="PRIMARY",
    ),
    Key(
        name="since",
        kind=INSTANT,
        default="now",
        means="When the role begins; earlier than now for the first roles of a model that has not run.",
        example="2026-01-01T00:00:00Z",
    ),
    Key(
        name="params",
        kind=JSON_OBJECT,
        means="What the model reads as `ctx.params`; fixed once the version has run.",
        example="{limit_kn: 40}",
    ),
    Key(
        name="artifact",
        kind=ARTIFACT,
        means="The file that the model is made of, as `self.artifact`: fetched once a host, and checked"
        " against its digest; a `uri` that ends with `/` is a folder. Fixed once the version has run.",
        example=f"{{uri: 's3://models@fraud/3.skops', sha256: {'5f' * 32}}}",
    ),
    Key(
        name="entrypoint",
        kind=ENTRYPOINT,
        default="the model's",
        means="The version's own class, where it is not the model's; fixed once the version has run.",
        example="your_package.models:FastShips2",
    ),
    Key(name="notes", kind=TEXT, means="What people should know of the version.", example="finds more"),
)


VERSIONS = ValueKind(
    "versions",
    f"a mapping of versions, 1 to {MAX_ID_LENGTH} characters without `@`, `,` and spaces, in quotes",
    {"type": "object"},
)

CYCLES = ValueKind("entries", f"a mapping; an id has 1 to {MAX_ID_LENGTH} characters", {"type": "object"})
MODELS = ValueKind(
    "entries",
    f"a mapping; an id has 1 to {MAX_ID_LENGTH} of the characters a-z, 0-9, `_`, `.` and `-`",
    {"type": "object"},
)

CYCLE_KEYS = (
    Key(
        name="schedule",
        kind=CRON,
        is_required=True,
        means="When the cycle starts. Each tick is a `cycle_started_at`, which is in UTC.",
        example='"*/5 * * * *"',
    ),
    Key(
        name="timezone",
        kind=ZONE,
        default="UTC",
        means="Whose clock the schedule follows. Where clocks change, one that fires in every hour keeps its"
        " distance; of any other each time fires once: in the hour that comes twice at its second, and later"
        " by the change where the clock leaves it out (two that then fall together are one cycle).",
        example="Europe/Berlin",
    ),
    Key(
        name="catchup",
        kind=FLAG,
        means="Whether cycles since `start_date` that no run has had are run, in order, at most"
        " `max_active_runs` at a time: after an outage none is missing.",
        example="true",
    ),
    Key(
        name="lookback",
        kind=DURATION,
        is_required=True,
        means="How far the window reaches back from `cycle_started_at`.",
        example="60m",
    ),
    Key(
        name="start_date",
        kind=INSTANT,
        is_required=True,
        means="The first instant at which the cycle may start; without a time zone it is UTC.",
        example="2026-01-01T00:00:00Z",
    ),
    Key(
        name="input_query",
        kind=TEXT,
        default="none: the models get no rows",
        means="One SELECT, the rows of which are `ctx.inputs`; it has `:window_start`, `:window_end`,"
        " `:cycle_started_at` and `:opened_at`.",
        example="select mmsi, sog_kn from ais_positions where observed_at >= :window_start and observed_at <"
        " :window_end",
    ),
    Key(
        name="time_key",
        kind=TEXT,
        default="none",
        means="The column of `input_query` with a row's time (an instant, or seconds since 1970): manifests"
        " then tell how fresh the inputs were.",
        example="observed_at",
    ),
    Key(
        name="execution",
        kind=EXECUTION,
        means="`task`: each version is an Airflow task; `inline`: the whole plan runs in one task.",
        example="inline",
    ),
    Key(
        name="max_active_runs",
        kind=COUNT,
        means="How many runs of the Dag may be under way at once.",
        example="2",
    ),
    Key(
        name="legacy_entrypoint",
        kind=FUNCTION,
        default="none",
        means="What runs in place of the models while the registry is off.",
        example="your_package.old:run",
    ),
    Key(name="is_enabled", kind=FLAG, means="Whether the Dag has its schedule.", example="false"),
    Key(name="tags", kind=TAGS, means="Tags of the Dag, beside `detection`.", example="[fraud, night]"),
    Key(
        name="owner",
        kind=TEXT,
        default="Airflow's default",
        means="The owner of the Dag's tasks.",
        example="fraud-team",
    ),
    Key(
        name="owner_links",
        kind=LINKS,
        means="An address for each owner, beside those of `cycle_dags`.",
        example='{fraud-team: "https://example.org/fraud"}',
    ),
    Key(
        name="default_args",
        kind=DEFAULT_ARGS,
        means="Arguments of the Dag's tasks, before those of `cycle_dags`; a model's `task_options` win.",
        example="{retries: 1, pool: heavy}",
    ),
    Key(
        name="deadline",
        kind=DEADLINE,
        default="none",
        means="What is called when a run of the Dag takes too long, beside the deadlines of `cycle_dags`.",
        example="{after: 4m, callback: your_package.alerts:is_late}",
    ),
    Key(name="description", kind=TEXT, means="The description of the Dag.", example="Ships, every 5 minutes"),
)

MODEL_KEYS = (
    Key(
        name="cycle",
        kind=CYCLE_ID,
        is_required=True,
        means="The cycle that the model runs in; fixed once the model has run.",
        example="maritime",
    ),
    Key(
        name="entrypoint",
        kind=ENTRYPOINT,
        is_required=True,
        means="The model's class; fixed once the model has run.",
        example="your_package.models:FastShips",
    ),
    Key(
        name="depends_on",
        kind=MODEL_IDS,
        means="The models whose champions' outputs it reads as `ctx.shared`.",
        example="[track_quality]",
    ),
    Key(
        name="entity_key",
        kind=TEXT,
        default="none: no entities, canaries and events",
        means="The entry of an output, or else of its input_ref, that names the entity; fixed like `cycle`.",
        example="entity_id",
    ),
    Key(
        name="score_key",
        kind=TEXT,
        default="none: no scores and events",
        means="The entry of an output that is its score, a number or null; fixed like `cycle`.",
        example="score",
    ),
    Key(
        name="events",
        kind=EVENTS,
        default="{above: 0.5, severity: {MEDIUM: 0.3, HIGH: 0.5, CRITICAL: 0.7}}",
        means="Which scores make [events](../events.md), and how severe they are; `false`: none do.",
        example="{above: 0.8, severity: {CRITICAL: 0.95}}",
    ),
    Key(
        name="event_gap",
        kind=DURATION,
        default="1h",
        means="The longest time between two sightings of an entity that belong to one event.",
        example="30m",
    ),
    Key(
        name="task_options",
        kind=TASK_OPTIONS,
        means="Options of the Airflow tasks of its versions.",
        example="{pool: heavy, execution_timeout: 120}",
    ),
    Key(
        name="promotion",
        kind=PROMOTION,
        means="What a challenger must show, where it differs from the defaults.",
        example="{min_cycles: 288}",
    ),
    Key(
        name="is_enabled",
        kind=FLAG,
        means="A switch of today: a model that is off keeps its place in every plan and is skipped.",
        example="false",
    ),
    Key(
        name="versions",
        kind=VERSIONS,
        means="Its versions, see [versions](#versions).",
        example='{"1.0": {role: PRIMARY}}',
    ),
)

FILE_KEYS = (
    Key(name="cycles", kind=CYCLES, means="The cycles, by their id.", example="see below"),
    Key(name="models", kind=MODELS, means="The models, by their id.", example="see below"),
)
