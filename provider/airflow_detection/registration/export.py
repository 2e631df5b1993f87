"""The registration file of what is registered: applied again, it changes nothing."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import yaml

from airflow_detection.domain.cron import split_zone
from airflow_detection.domain.json_values import plain
from airflow_detection.domain.specs import CycleSpec, ModelSpec
from airflow_detection.registration.nodes import is_read_differently
from airflow_detection.store import registry
from airflow_detection.store.database import Database
from airflow_detection.store.registry import RegisteredVersion


def registration_yaml(db: Database) -> str:
    """Return the registry as a registration file: cycles, models, versions with the roles they hold now."""
    versions = registry.versions(db)
    content = {
        "cycles": {spec.cycle_id: _cycle(spec) for spec in registry.cycle_specs(db)},
        "models": {
            spec.model_id: model_entry(spec, [v for v in versions if v.model_id == spec.model_id])
            for spec in registry.model_specs(db)
        },
    }
    return yaml_text(content)


def yaml_text(content: object) -> str:
    """Return content as YAML that each reader takes for the same."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


class _Dumper(yaml.SafeDumper):
    """Writes no aliases: each entry can be changed alone; and no text that some readers take for another."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        node = self.represent_str(text)
        if is_read_differently(node):
            node.style = "'"
        return node

    def ignore_aliases(self, data: Any) -> bool:  # Any: a YAML value
        return True


_Dumper.add_representer(str, _Dumper.represent_text)


def _cycle(spec: CycleSpec) -> dict[str, Any]:  # Any: a YAML value
    expression, timezone = split_zone(spec.schedule)
    entry: dict[str, Any] = {
        "schedule": expression,
        **({"timezone": timezone} if timezone != "UTC" else {}),
        "lookback": f"{spec.lookback // timedelta(seconds=1)}s",
        "start_date": spec.start_date.isoformat(),
        "execution": spec.execution.value,
        "max_active_runs": spec.max_active_runs,
        "is_enabled": spec.is_enabled,
    }
    optional = (
        "input_query", "time_key", "legacy_entrypoint", "catchup", "tags", "owner", "owner_links",
        "default_args", "description",
    )  # fmt: skip
    entry |= {name: plain(getattr(spec, name)) for name in optional if getattr(spec, name)}
    if spec.deadline:
        entry["deadline"] = {
            "after": f"{spec.deadline['after_s']:.0f}s",
            "callback": spec.deadline["callback"],
        }
    return entry


def model_entry(spec: ModelSpec, versions: list[RegisteredVersion]) -> dict[str, Any]:  # Any: a YAML value
    """Return what a registration file says of a model and these of its versions."""
    entry: dict[str, Any] = {"cycle": spec.cycle_id, "entrypoint": spec.entrypoint}
    if spec.depends_on:
        entry["depends_on"] = sorted(spec.depends_on)
    entry |= {name: getattr(spec, name) for name in ("entity_key", "score_key") if getattr(spec, name)}
    options = {name: plain(getattr(spec, name)) for name in ("task_options", "promotion")}
    entry |= {name: value for name, value in options.items() if value}
    if spec.event_gap:
        entry["event_gap"] = f"{spec.event_gap // timedelta(seconds=1)}s"
    if spec.events is False or spec.events:
        entry["events"] = plain(spec.events)
    if not spec.is_enabled:
        entry["is_enabled"] = False
    return entry | {"versions": {version.version: _version(version) for version in versions}}


def _version(version: RegisteredVersion) -> dict[str, Any]:  # Any: a YAML value
    entry: dict[str, Any] = {}
    if version.role:
        entry["role"] = version.role.value
    if version.since and version.is_founding:  # the start of another role cannot be given
        entry["since"] = version.since.isoformat()
    if version.params:
        entry["params"] = plain(version.params)
    if version.artifact:
        entry["artifact"] = asdict(version.artifact)
    return entry | {
        name: getattr(version, name) for name in ("entrypoint", "notes") if getattr(version, name)
    }
