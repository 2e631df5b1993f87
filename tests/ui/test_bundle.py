"""The committed bundle of the pages is what its sources build, byte for byte, without what the host has."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.ui.sources import CHECKOUT, TIMEOUT_S, UI, WWW, node_modules, npm

BUNDLE = UI / "static" / "detection.js"
MAX_COMPRESSED = 150_000
HOST = {"React", "ReactJSXRuntime", "ReactRouterDOM", "ChakraUI"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the pages in a folder of their own, with what their lock file names."""
    npm()
    folder = tmp_path_factory.mktemp("ui") / "www"
    shutil.copytree(WWW, folder, ignore=shutil.ignore_patterns("node_modules"))
    modules = node_modules(folder)
    if modules.parent != folder:
        (folder / "node_modules").symlink_to(modules)
    return folder


def run(folder: Path, *arguments: str) -> None:
    """Run a script of the package; it must end with 0."""
    done = subprocess.run(
        [npm(), "run", "--silent", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_building_the_pages_anew_gives_the_committed_bytes(copy: Path) -> None:
    run(copy, "build")
    built = copy.parent / "static" / BUNDLE.name
    assert built.read_bytes() == BUNDLE.read_bytes(), "the bundle is not what its sources build: make ui"


def test_the_types_of_the_pages_are_those_of_the_routes(copy: Path, tmp_path: Path) -> None:
    description = tmp_path / "openapi.json"
    subprocess.run(
        [sys.executable, CHECKOUT / ".ci" / "openapi", description],
        check=True, capture_output=True, env={**os.environ, "AIRFLOW_HOME": str(tmp_path)},
    )  # fmt: skip
    run(copy, "schema", "--", str(description), "--output", "made.ts")
    committed = WWW / "src" / "api" / "schema.ts"
    assert (copy / "made.ts").read_text() == committed.read_text(), "the routes have changed: make ui"


def test_the_bundle_is_small() -> None:
    assert len(gzip.compress(BUNDLE.read_bytes(), mtime=0)) < MAX_COMPRESSED


def test_the_bundle_takes_react_and_chakra_from_the_host() -> None:
    text = BUNDLE.read_text()
    called_with = re.search(r"\}\)\(([\w,]*)\);\s*$", text)
    assert called_with, text[-200:]
    assert set(called_with[1].split(",")) == HOST
    assert "react.production" not in text
    assert "dangerouslySetInnerHTML" not in text


def test_the_lock_file_names_versions_and_no_addresses() -> None:
    text = (WWW / "package-lock.json").read_text()
    assert "://" not in text
    assert '"resolved"' not in text
    assert "omit-lockfile-registry-resolved=true" in (WWW / ".npmrc").read_text().splitlines()


def test_every_dependency_of_the_pages_has_one_version() -> None:
    versions = json.loads((WWW / "package.json").read_text())["devDependencies"].values()
    assert [v for v in versions if not re.fullmatch(r"\d+\.\d+\.\d+", v)] == []
