"""Whether a schedule is a cron expression: the one judge for files, the command line and the Dags."""

from __future__ import annotations


def cron_problem(schedule: str) -> str | None:
    """Why a schedule is no cron expression of five fields (or @hourly or such) that ever fires, or None."""
    from croniter import CroniterError, croniter  # type: ignore[import-untyped]  # it ships no types

    fields = len(schedule.split())
    if fields not in {1, 5} or (fields == 1 and not schedule.strip().startswith("@")):
        return f"{schedule!r} is no cron expression: it has {fields} fields, not 5"
    try:
        croniter(schedule).get_next()
    except (CroniterError, ValueError, KeyError, AttributeError, OverflowError) as error:
        return f"{schedule!r} is no cron expression: {error}"
    return None
