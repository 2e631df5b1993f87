"""What a snapshot report takes from this process and its configuration."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_detection.domain.settings import Settings

if TYPE_CHECKING:
    from airflow_detection.snapshot.section import BaseSection, ProcessFacts


def process_facts_of(held: Settings) -> ProcessFacts:
    """What this process knows: the package, the flags, the age of the last known good plan."""
    from airflow_detection import __version__
    from airflow_detection.config import thresholds
    from airflow_detection.engine import flags
    from airflow_detection.snapshot.section import ProcessFacts

    written = [path.stat().st_mtime for path in held.state_dir.glob("*.json")]
    names = (flags.USE_MODEL_REGISTRY, flags.CONCURRENT_SHADOWS)
    return ProcessFacts(
        code_version=__version__,
        flags={name: os.environ.get(name, "") or "not set" for name in names},
        plan_read_at=datetime.fromtimestamp(max(written), UTC) if written else None,
        plan_ttl_s=held.plan_ttl_s,
        thresholds=thresholds(),
    )


def sections_of(held: Settings) -> tuple[BaseSection, ...]:
    """The built-in sections and those that `[detection] report_sections` names."""
    from airflow.configuration import conf

    from airflow_detection.domain.settings import SECTION
    from airflow_detection.snapshot.sections.catalog import sections

    named = str(conf.get(SECTION, "report_sections", fallback="") or "")
    further = [part.strip() for part in named.split(",") if part.strip()]
    return sections(further, allowed_prefixes=held.allowed_prefixes)
