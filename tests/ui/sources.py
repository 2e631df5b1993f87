"""The sources of the pages, and what their lock file names, installed for a test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
UI = CHECKOUT / "provider" / "airflow_detection" / "ui"
WWW = UI / "www"
TIMEOUT_S = 600.0


def missing(reason: str) -> None:
    """Skip the test; where CI is set it fails."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def npm() -> str:
    """The path of npm; without it the test is skipped, in CI it fails."""
    found = shutil.which("npm")
    if found is None:
        missing("npm was not found: Node 20 or newer is needed")
    return str(found)


def node_modules(folder: Path) -> Path:
    """The installed packages: those of the checkout if of its lock file, else new ones in `folder`."""
    installed = WWW / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= (WWW / "package-lock.json").stat().st_mtime:
        return WWW / "node_modules"
    program = npm()
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(WWW / name, folder)
    done = subprocess.run(
        [program, "ci", "--no-progress", "--prefer-offline"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    if done.returncode and re.search(r"ENOTFOUND|EAI_AGAIN|ENETUNREACH", done.stderr):
        missing("the package registry cannot be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "node_modules"
