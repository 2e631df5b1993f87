"""Links from a task of Airflow to the page about it; relative, so that they work behind a path prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from airflow_detection.domain.links import page

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


class ComparisonLink(BaseOperatorLink):
    """From the task that asks for a promotion to the comparison of the two versions."""

    name = "Comparison"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # Any: a task instance, or its key
        """Return the address of the comparison; of the first page before there is evidence."""
        del ti_key
        return getattr(operator, "comparison_page", None) or page("overview")
