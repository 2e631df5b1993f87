"""How a cycle's versions are executed, for tests in a real Airflow: the second way in the long tests."""

from __future__ import annotations

import pytest

from airflow_detection.domain.specs import Execution

EXECUTIONS = [Execution.TASK, pytest.param(Execution.INLINE, marks=pytest.mark.long)]
