"""The documentation: every command is one, every code block is code, every link leads somewhere."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from docs import generated

from airflow_detection.registration.file import parse
from airflow_detection.store.database import Database
from airflow_detection.store.grants import grant

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"),
                 *(ROOT / "examples").rglob("*.md"))
    if not {"_site", "generated"} & {*path.parts}
)  # fmt: skip
FENCE = re.compile(r"^( *)```{?([a-z]*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(airflow detection [^`]+)`", re.DOTALL)
PROGRAMS = {".", "docker", "export", "pip", "rm", "source"}
"""What a console block may call besides airflow, make and python."""
PLACEHOLDER = re.compile(r"^[A-Z][A-Z@_.]*$|^\.\.\.$|^<.*>$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, the line that it begins at."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def dedented(match: re.Match[str]) -> str:
    """Return the text of a block without the indentation of its fence."""
    return "\n".join(line.removeprefix(match[1]) for line in match[3].splitlines())


ALL = [
    Block(page, text.count("\n", 0, match.start()) + 1, match[2], dedented(match))
    for page in PAGES
    for text in [(ROOT / page).read_text(encoding="utf-8")]
    for match in FENCE.finditer(text)
]


def of(*languages: str) -> list[Block]:
    """Return the blocks in one of these languages."""
    return [block for block in ALL if block.language in languages]


def test_every_block_is_of_a_language_that_is_checked() -> None:
    assert {block.language for block in ALL} == {
        "console", "python", "yaml", "sql", "toml", "ini", "text", "", "toctree", "eval",
    }  # fmt: skip


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the commands of a console block as words; what they print is left out."""
    has_prompt = "$ " in block.text
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    for line in lines:
        if line.startswith("$ ") or (not has_prompt and line.startswith("airflow ")):
            for part in re.split(r"\s&&\s", line.removeprefix("$ ")):
                yield shlex.split(part.partition(" > ")[0], comments=True)


def check_airflow(argv: Sequence[str]) -> None:
    """Make sure that Airflow's parser knows a command and its options, and takes them where none is open."""
    from airflow.cli import cli_parser  # after the configuration of the test

    parser = cli_parser.get_parser()
    words = [word.strip("[]") for word in argv]
    leaf, depth = parser, 0
    for word in words:
        try:
            leaf = generated.subparser(leaf, (word,))
        except (KeyError, StopIteration):
            break
        depth += 1
    known = {option for action in leaf._actions for option in action.option_strings}
    assert depth >= min(2, len(words)), f"no command {' '.join(words[: depth + 1])}"
    assert {word for word in words if word.startswith("--")} <= known
    if not any(PLACEHOLDER.search(word) or "[" in word for word in argv[1:]):
        assert parser.parse_args(list(argv)).func


@pytest.mark.parametrize("block", of("console"), ids=str)
def test_every_command_of_a_console_block_is_one(block: Block) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for argv in commands(block):
        program, *arguments = argv
        if program == "airflow" and arguments[0] == "celery":
            continue  # of another provider
        if program == "airflow":
            check_airflow(arguments)
        elif program == "make":
            assert arguments[0] in targets
        elif program.startswith("python"):
            assert arguments[:2] in (["-m", "venv"], ["-m", "payments.generate"])
        else:
            assert program in PROGRAMS, program


def inline_commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
        found += [(page, " ".join(match.split())) for match in INLINE.findall(text)]
    return sorted({*found})


@pytest.mark.parametrize(("page", "command"), inline_commands())
def test_every_command_in_a_sentence_is_one(page: str, command: str) -> None:
    words = shlex.split(command.replace("|", " "))[1:]
    if "..." not in words:
        check_airflow(["[" if "{" in word else word for word in words] + ["[usage]"])


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_every_python_block_parses_and_imports_what_there_is(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("airflow"):
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"


REGISTRATIONS = [block for block in of("yaml") if not block.text.startswith("apiVersion:")]
"""The others are manifests of Kubernetes: `tests/dags/test_pods.py` makes pods of them."""


@pytest.mark.parametrize("block", REGISTRATIONS, ids=str)
def test_every_yaml_block_is_a_registration(block: Block) -> None:
    parse(block.text, str(block), cycles={"maritime", "payments"})


@pytest.mark.parametrize("block", of("toml", "ini"), ids=str)
def test_every_block_of_settings_parses(block: Block) -> None:
    if block.language == "toml":
        assert tomllib.loads(block.text)
        return
    parser = ConfigParser()
    parser.read_string(block.text)
    assert parser.sections()


@pytest.mark.parametrize("block", of("sql"), ids=str)
def test_every_sql_block_is_understood_by_the_registrys_database(
    block: Block, database: psycopg.Connection[Any]
) -> None:
    grant(Database(database))
    with database.transaction(force_rollback=True):
        for statement in filter(str.strip, re.sub(r"--[^\n]*", "", block.text).split(";")):
            is_plain = re.match(r"\s*(select|insert|update|delete|with)\b", statement)
            with suppress(psycopg.errors.DependentObjectsStillExist), database.transaction():
                database.execute(f"{'explain ' if is_plain else ''}{statement}".encode())


def slugs(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", path.read_text(encoding="utf-8"))):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if "generated" in file.parts:
            assert file.stem in generated.PAGES
            continue
        assert file.exists(), target
        assert not anchor or anchor in slugs(file), target


@pytest.mark.long
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(tmp_path / "site")]
    env = os.environ | {"AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run(build, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    assert {"tutorial.html", "reference/generated/commands.html", "reference/python.html"} <= pages
    text = (tmp_path / "site" / "reference" / "generated" / "commands.html").read_text()
    assert all(f"Usage: airflow detection {' '.join(path)}" in text for path in generated.leaves())


def test_every_table_and_view_says_what_it_is_for(database: psycopg.Connection[Any]) -> None:
    rows = database.execute(generated.COMMENTS).fetchall()
    assert len(rows) > 20
    assert [name for name, _, comment in rows if not comment] == []
