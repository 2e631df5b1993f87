"""The `[detection]` section of Airflow's configuration, read in one place, whenever it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from airflow_detection.domain.settings import SECTION, Settings
from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.errors import ConfigurationError

SWITCHES = ("ensure_partitions", "apply_retention", "aggregate_stats_hourly", "snapshot_report")
"""The tasks of the maintenance Dag, each of which an option of the same name turns off."""
MAX_NUMBER = 366 * 86_400
"""Of an option that is a number: a year in seconds."""
THRESHOLD_LIMIT = 1_000_000
"""An option `verdict_*` is below it."""


def _option(description: str, kind: str, default: str, example: str | None = None) -> dict[str, Any]:
    """One option in the shape of Airflow's provider schema."""
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": example,
        "default": default,
    }


_VERDICTS = {
    "history_cycles": "Healthy cycles that make a baseline.",
    "min_history_cycles": "With fewer healthy cycles a verdict says WARMING_UP.",
    "canary_tolerance": "How far a canary's score may be off.",
    "feature_null_floor": "A feature's null rate is never unusual below this.",
    "feature_null_factor": "A feature's null rate is unusual above so many times its highest.",
    "feature_distinct_share": "A feature's distinct ratio is unusual below this share of its median.",
    "distinct_share": "Newest rows and outputs' entities repeat each other below this share of the usual.",
    "shift_share": "A mean has moved if by this share of the standard deviation, at least.",
    "score_null_floor": "The share of null scores is never unusual below this.",
    "score_null_factor": "The share of null scores is unusual above so many times its 99th percentile.",
    "stale_cycles": "Cycles that the newest input may be old.",
    "input_mad_factor": "Inputs are too few below min(median - this x MAD, verdict_input_share x median).",
    "input_share": "Inputs are too few below min(median - verdict_input_mad_factor x MAD, this x median).",
    "newest_share": "The newest rows are too few below this share of those of the cycles just before.",
    "p_value": "How improbable a count must be to be unusual.",
}

OPTIONS: Mapping[str, dict[str, Any]] = MappingProxyType(  # Any: text or null
    {
        "schema": _option("Postgres schema that holds the registry and the results.", "string", "detection"),
        "allowed_modules": _option(
            "Modules, separated by commas, from which entry points of the form ``module:Class`` may come; "
            "those below them are allowed too. Names of the entry-point group "
            "``airflow_detection.models`` are always allowed.",
            "string",
            "",
            "acme.detectors, acme.fraud",
        ),
        "state_dir": _option(
            "Folder of the last known good plans; relative to AIRFLOW_HOME.", "string", "detection"
        ),
        "artifact_cache": _option(
            "Folder of the artefacts of versions, which all processes of a machine share; relative to "
            "AIRFLOW_HOME. Without it ``artifacts`` in state_dir.",
            "string",
            "",
            "/var/cache/detection",
        ),
        "artifact_cache_size": _option(
            "MiB that these files may take together; the least recently used that no process uses go first.",
            "float",
            "4096",
        ),
        "plan_ttl": _option("Seconds for which a parsed plan is kept before it is read anew.", "float", "30"),
        "statement_timeout": _option(
            "Seconds after which Postgres ends a model's statement; 0 leaves the server's own limit.",
            "float",
            "0",
        ),
        "inline_timeout": _option(
            "Seconds after which a version is ended, unless its model's task options set execution_timeout.",
            "float",
            "600",
        ),
        "inline_memory": _option(
            "MiB that a version may allocate beyond what its task holds, unless its "
            "model's task options set memory_limit; 0 sets no bound.",
            "float",
            "0",
        ),
        "inline_disk": _option(
            "MiB that a version may write into one file, and into all files of its folder, unless its "
            "model's task options set disk_limit; 0 sets no bound.",
            "float",
            "256",
        ),
        "shared_inputs": _option(
            "MiB of a cycle's input rows from which the task that reads them first keeps them in a file, "
            "for the tasks of the cycle's other versions; 0 keeps none.",
            "float",
            "0",
            "8",
        ),
        "shared_inputs_folder": _option(
            "Folder of these files that the workers of all hosts have, or one of an object store, through "
            "Airflow's connections. Without it ``inputs`` in state_dir, for the tasks of one machine.",
            "string",
            "",
            "s3://detection@fleet-data/inputs",
        ),
        "inline_preload": _option(
            "Modules, separated by commas, that the task of an inline cycle imports once, so that each "
            "version's process finds them there; one that is not installed is left out.",
            "string",
            "numpy",
            "numpy, scipy.spatial",
        ),
        "training_timeout": _option(
            "Seconds after which a training step is ended; its other bounds are those of a version.",
            "float",
            "3600",
        ),
        "reader_role": _option(
            "Postgres role that models read as; the connection's login must be a member of it.",
            "string",
            "",
            "detection_reader",
        ),
        **{
            name: _option(f"Whether the maintenance Dag's task ``{name}`` does its work.", "boolean", "True")
            for name in SWITCHES
        },
        "report_sections": _option(
            "Further sections of the snapshot report, separated by commas: names of the entry-point group "
            "``airflow_detection.sections``, or ``module:Class`` from an allowed module.",
            "string",
            "",
            "acme.report:FeedOfAcme",
        ),
        **{
            f"verdict_{name}": _option(
                _VERDICTS[name], "integer" if isinstance(default, int) else "float", str(default)
            )
            for name, default in ((f.name, f.default) for f in fields(Thresholds))
        },
        "reader_conn_id": _option(
            "Airflow connection that models read through: one whose login has no right to write. "
            "Without it they read through the connection of the registry.",
            "string",
            "",
            "detection_reader",
        ),
        "asset_partition_keys": _option(
            "Whether the event of a champion's asset has its cycle as partition key: a Dag with a "
            "PartitionedAssetTimetable then runs once for each cycle, and one with a plain asset schedule "
            "is not started by it.",
            "boolean",
            "False",
        ),
        "promotion_four_eyes": _option(
            "Whether a promotion needs another person's approval than that of who asked for it.",
            "boolean",
            "True",
        ),
        "manual_runs": _option(
            "What becomes of a manual run of a cycle between two ticks of its schedule: ``refuse`` it, or "
            "``snap`` it to the tick before.",
            "string",
            "refuse",
            "snap",
        ),
        "page_timeout": _option(
            "Seconds after which Postgres ends a statement of a page in Airflow's UI.", "float", "5"
        ),
        "comparison_timeout": _option(
            "Seconds after which Postgres ends a statement of a comparison in Airflow's UI.", "float", "20"
        ),
        "conn_id": _option("Airflow connection of the registry's database.", "string", "detection_default"),
    }
)


def settings() -> Settings:
    """Read the section now; AIRFLOW__DETECTION__<OPTION> in the environment comes first, as everywhere.

    Raises:
        ConfigurationError: an option is malformed.
    """
    from airflow.configuration import conf, get_airflow_home

    def text(name: str) -> str:
        return str(conf.get(SECTION, name, fallback=OPTIONS[name]["default"]) or "").strip()

    home = Path(get_airflow_home())
    return Settings(
        schema=text("schema"),
        allowed_prefixes=_names(text("allowed_modules")),
        statement_timeout_s=_number("statement_timeout", text("statement_timeout")) or None,
        state_dir=home / text("state_dir"),
        artifact_cache=home / (text("artifact_cache") or f"{text('state_dir')}/artifacts"),
        artifact_cache_mib=_number("artifact_cache_size", text("artifact_cache_size")),
        plan_ttl_s=_number("plan_ttl", text("plan_ttl")),
        inline_timeout_s=_number("inline_timeout", text("inline_timeout")),
        inline_memory_mib=_number("inline_memory", text("inline_memory")) or None,
        inline_disk_mib=_number("inline_disk", text("inline_disk")) or None,
        shared_inputs_mib=_number("shared_inputs", text("shared_inputs")) or None,
        shared_inputs_folder=_folder("shared_inputs_folder", text("shared_inputs_folder")),
        inline_preload=_names(text("inline_preload")),
        training_timeout_s=_number("training_timeout", text("training_timeout")),
        reader_role=text("reader_role") or None,
        reader_conn_id=text("reader_conn_id") or None,
        conn_id=text("conn_id"),
        page_timeout_s=_number("page_timeout", text("page_timeout")),
        comparison_timeout_s=_number("comparison_timeout", text("comparison_timeout")),
        snaps_manual_runs=_one_of("manual_runs", text("manual_runs"), ("refuse", "snap")) == "snap",
        asset_partition_keys=conf.getboolean(SECTION, "asset_partition_keys", fallback=False),
        promotion_four_eyes=conf.getboolean(SECTION, "promotion_four_eyes", fallback=True),
    )


def thresholds() -> Thresholds:
    """Read the options `verdict_*` now: from which numbers on a run counts as unusual.

    Raises:
        ConfigurationError: one of them is not a number above 0, or not a whole one where cycles are counted.
    """
    from airflow.configuration import conf

    values: dict[str, Any] = {}  # Any: int or float, as the field wants it
    for field in fields(Thresholds):
        name, kind = f"verdict_{field.name}", int if isinstance(field.default, int) else float
        text = str(conf.get(SECTION, name, fallback=OPTIONS[name]["default"])).strip()
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < THRESHOLD_LIMIT:
            number = "a whole number" if kind is int else "a number"
            raise ConfigurationError(
                f"[{SECTION}] {name} is {text!r}: must be {number} above 0 and below {THRESHOLD_LIMIT}"
            )
        values[field.name] = value
    return Thresholds(**values)


def _folder(name: str, text: str) -> str | None:
    """Read an absolute folder, or the URI of one; None for nothing."""
    if text and not (text.startswith("/") or "://" in text):
        raise ConfigurationError(f"[{SECTION}] {name} is {text!r}: must be an absolute folder or a URI")
    return text or None


def _names(text: str) -> tuple[str, ...]:
    """Split what is separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _one_of(name: str, text: str, known: Sequence[str]) -> str:
    """Read an option that has one of some values."""
    if text not in known:
        raise ConfigurationError(f"[{SECTION}] {name} is {text!r}: must be one of {', '.join(known)}")
    return text


def _number(name: str, text: str) -> float:
    """Read a number of seconds, 0 up to a year, or of MiB."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MAX_NUMBER:
        raise ConfigurationError(
            f"[{SECTION}] {name} is {text!r}: must be a number between 0 and {MAX_NUMBER}"
        )
    return value
