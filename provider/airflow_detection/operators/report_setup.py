"""The parts of a snapshot report that come from this process and its configuration."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from airflow_detection.domain.settings import Settings

if TYPE_CHECKING:
    from airflow_detection.snapshot.section import BaseSection, ProcessFacts


def process_facts_of(settings: Settings) -> ProcessFacts:
    """Return what this process knows: the package, the flags, when the last known good plan was read."""
    from airflow_detection import __version__
    from airflow_detection.config import thresholds
    from airflow_detection.engine import flags
    from airflow_detection.plan_cache.cache import read_at
    from airflow_detection.snapshot.section import ProcessFacts

    names = (flags.USE_MODEL_REGISTRY, flags.CONCURRENT_SHADOWS)
    return ProcessFacts(
        code_version=__version__,
        flags={name: os.environ.get(name, "") or "not set" for name in names},
        plan_read_at=read_at(settings.conn_id, settings),
        plan_ttl_s=settings.plan_ttl_s,
        thresholds=thresholds(),
    )


def sections_of(settings: Settings) -> tuple[BaseSection, ...]:
    """Return the built-in sections and those that `[detection] report_sections` names."""
    from airflow.configuration import conf

    from airflow_detection.domain.settings import SECTION
    from airflow_detection.snapshot.sections.catalog import sections

    named = str(conf.get(SECTION, "report_sections", fallback="") or "")
    further = [part.strip() for part in named.split(",") if part.strip()]
    return sections(further, allowed_prefixes=settings.allowed_prefixes)
