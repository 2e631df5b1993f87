"""The picture of the layers, and the rules about rooms that import-linter does not see."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "provider" / "airflow_detection"
DOCS = [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"]


@pytest.fixture(scope="module")
def layers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("layers", ROOT / "docs" / "layers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_of_the_layers_is_that_of_the_contract(layers: ModuleType) -> None:
    assert layers.PICTURE.read_text() == layers.draw(), "run: python docs/layers.py"


def test_every_room_is_in_the_contract_and_only_named_modules_are_in_the_root(layers: ModuleType) -> None:
    rooms = {room for layer in layers.layers() for room in layer}
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    modules = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
    assert folders | modules == rooms
    assert modules == {"config", "errors", "plugin", "provider_info", "pytest_plugin", "testing"}


def test_no_two_classes_have_one_name() -> None:
    places = defaultdict(list)
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(file.relative_to(PACKAGE).as_posix())
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_a_rooms_init_is_empty() -> None:
    assert [p for p in PACKAGE.rglob("__init__.py") if p.parent != PACKAGE and p.read_text().strip()] == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.*-]*)`", page.read_text()))
    named |= set(re.findall(r"`([\w-]+\.(?:py|toml|md|sql))`", page.read_text()))
    assert named
    bases = (ROOT, PACKAGE, ROOT / "docs")
    missing = sorted(n for n in named if not any(list(base.glob(n.rstrip("/"))) for base in bases))
    assert missing == []


def test_the_public_names_can_be_imported() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    names = re.findall(r"^from (airflow_detection[\w.]*) import (.+)$", page, re.M)
    assert len(names) > 5
    for module, imported in names:
        loaded = importlib.import_module(module)
        for name in imported.split(", "):
            assert hasattr(loaded, name), f"{module}.{name}"
