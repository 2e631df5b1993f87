"""A report of a day of 288 cycles x 20 versions x 1000 outputs keeps its bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
def test_a_report_over_a_full_day_takes_at_most_twenty_seconds_and_two_hundred_megabytes() -> None:
    done = subprocess.run(  # a process of its own: its peak of memory is that of the reports
        [sys.executable, "-c", "import json, benchmarks.snapshot as b; print(json.dumps(b.run()))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = {line["case"]: line for line in json.loads(done.stdout.splitlines()[-1])}
    assert set(lines) == {"hourly", "diagnostic"}
    for line in lines.values():
        assert line["n"] == 5_760_000
        assert line["cpu_ms"] <= 20_000
        assert line["max_ms"] <= 20_000 or line["load"] > (os.cpu_count() or 1)  # other work is in the way
        assert line["above_idle_mb"] <= 200
