"""The room is imported at no cost: the libraries that compute are loaded when they are needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import airflow_detection.evidence

MODULES = sorted(p.stem for p in Path(airflow_detection.evidence.__path__[0]).glob("[a-z]*.py"))


def test_importing_the_statistics_loads_no_library() -> None:
    code = (
        "import sys; "
        + "; ".join(f"import airflow_detection.evidence.{name}" for name in MODULES)
        + "; print({n.partition('.')[0] for n in sys.modules} & {'numpy', 'scipy', 'airflow', 'psycopg'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "gate" in MODULES
    assert done.stdout == "set()\n"
