"""Reading a registration file: YAML nodes with their lines become checked entries.

cycles:   {id: {schedule, lookback, start_date, max_active_runs, execution, input_query, time_key,
                legacy_entrypoint, is_enabled, description}}
models:   {id: {cycle, entrypoint, depends_on, entity_key, score_key, task_options, is_enabled,
                versions: {"1.0": {role, since, params, entrypoint, notes}}}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from airflow_detection.cron import cron_problem
from airflow_detection.domain import CycleSpec, Execution, ModelSpec, Role, require_id
from airflow_detection.errors import RegistrationError, hint, nearest

_LOOKBACK = re.compile(r"(\d{1,9})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_VERSION = re.compile(r"[^@,\s]{1,64}")
_ENTRYPOINT = re.compile(r"[A-Za-z_][\w-]*|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionEntry:
    """One version as the file has it; `line` counts from 1."""

    version: str
    line: int
    role: Role | None = None
    since: datetime | None = None
    params: Mapping[str, Any] = field(default_factory=dict)  # Any: a JSON object
    entrypoint: str | None = None
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model as the file has it."""

    spec: ModelSpec
    line: int
    versions: tuple[VersionEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleEntry:
    """One cycle as the file has it."""

    spec: CycleSpec
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A file's content, checked."""

    cycles: tuple[CycleEntry, ...] = ()
    models: tuple[ModelEntry, ...] = ()


class Problems:
    """Everything that is wrong with one file, by line."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.found: list[tuple[int, str, str]] = []

    def add(self, where: yaml.Node | int, place: str, fact: str) -> None:
        line = where if isinstance(where, int) else where.start_mark.line + 1
        self.found.append((line, place, fact))

    @contextmanager
    def at(self, where: yaml.Node | int, place: str) -> Iterator[None]:
        """Note what the registry or a value refuses inside as a problem of this place."""
        try:
            yield
        except (RegistrationError, ValueError) as error:
            self.add(where, place, str(error))

    def raise_all(self) -> None:
        if self.found:
            lines = [
                f"{self.source}:{line}: {place}: {fact}" for line, place, fact in sorted(set(self.found))
            ]
            raise RegistrationError("\n".join(lines))


def parse(
    text: str, source: str, *, cycles: Collection[str] = (), models: Iterable[ModelSpec] = ()
) -> Registration:
    """Read a file's text; `cycles` and `models` are what is registered already.

    Raises:
        RegistrationError: every problem at once, one line each: `source:line: field: fact`.
    """
    problems = Problems(source)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.add(mark.line + 1 if mark else 1, "YAML", str(error.problem or error.context))
    except yaml.YAMLError as error:
        problems.add(1, "YAML", str(error).splitlines()[0])
    else:
        if root is None:
            problems.add(1, "file", "is empty")
        else:
            return _Reader(problems, cycles, models).read(root)
    problems.raise_all()
    return Registration()


class _Reader:
    """Turns YAML nodes into entries, and goes on after a problem to find the next."""

    def __init__(self, problems: Problems, cycles: Collection[str], models: Iterable[ModelSpec]) -> None:
        self.problems = problems
        self.known_cycles = set(cycles)
        self.registered = {spec.model_id: spec for spec in models}
        self.edges: dict[str, list[tuple[str, yaml.Node]]] = {}
        self.model_cycles: dict[str, str] = {}

    def read(self, root: yaml.Node) -> Registration:
        top = self._fields(root, "file", ("cycles", "models"))
        cycle_nodes = self._entries(top.get("cycles"), "cycles")
        self.known_cycles |= {key for key, _, _ in cycle_nodes}
        cycles = [held for key, at, node in cycle_nodes if (held := self._cycle(key, at, node))]
        models = [
            entry
            for key, at, node in self._entries(top.get("models"), "models")
            if (entry := self._model(key, at, node))
        ]
        self._check_edges()
        self.problems.raise_all()
        return Registration(cycles=tuple(cycles), models=tuple(models))

    # The parts of a file.

    def _cycle(self, cycle_id: str, at: yaml.Node, node: yaml.Node) -> CycleEntry | None:
        place = f"cycles.{cycle_id}"
        before = len(self.problems.found)
        self._id(at, place, cycle_id)
        held = self._fields(
            node,
            place,
            (
                "schedule",
                "lookback",
                "start_date",
                "max_active_runs",
                "execution",
                "input_query",
                "time_key",
                "legacy_entrypoint",
                "is_enabled",
                "description",
            ),
            required=("schedule", "lookback", "start_date"),
        )
        values: dict[str, Any] = {}  # Any: what each field reads as
        readers: dict[str, Callable[[yaml.Node, str], object]] = {
            "schedule": self._cron,
            "lookback": self._duration,
            "start_date": self._instant,
            "max_active_runs": self._count,
            "execution": self._execution,
            "is_enabled": self._flag,
            "legacy_entrypoint": self._entrypoint,
        }
        for name, value in held.items():
            read = readers.get(name, self._text)(value, f"{place}.{name}")
            if read is not None:
                values[name] = read
        if len(self.problems.found) > before:
            return None
        return CycleEntry(spec=CycleSpec(cycle_id=cycle_id, **values), line=at.start_mark.line + 1)

    def _model(self, model_id: str, at: yaml.Node, node: yaml.Node) -> ModelEntry | None:
        place = f"models.{model_id}"
        before = len(self.problems.found)
        self._id(at, place, model_id)
        held = self._fields(
            node,
            place,
            (
                "cycle",
                "entrypoint",
                "depends_on",
                "entity_key",
                "score_key",
                "task_options",
                "is_enabled",
                "versions",
            ),
            required=("cycle", "entrypoint"),
        )
        values: dict[str, Any] = {"cycle_id": ""}  # Any: what each field reads as
        if "cycle" in held:
            values["cycle_id"] = self._text(held["cycle"], f"{place}.cycle") or ""
            if values["cycle_id"] and values["cycle_id"] not in self.known_cycles:
                near = hint(values["cycle_id"], self.known_cycles)
                self.problems.add(
                    held["cycle"], f"{place}.cycle", f"{values['cycle_id']!r} is not registered{near}"
                )
        self.model_cycles[model_id] = values["cycle_id"]
        self.edges[model_id] = self._names(held.get("depends_on"), f"{place}.depends_on")
        values["depends_on"] = tuple(sorted({name for name, _ in self.edges[model_id]}))
        readers: dict[str, Callable[[yaml.Node, str], object]] = {
            "entrypoint": self._entrypoint,
            "entity_key": self._text,
            "score_key": self._text,
            "task_options": self._json,
            "is_enabled": self._flag,
        }
        for name in readers.keys() & held.keys():
            read = readers[name](held[name], f"{place}.{name}")
            if read is not None:
                values[name] = read
        versions = self._versions(held.get("versions"), f"{place}.versions")
        if len(self.problems.found) > before:
            return None
        spec = ModelSpec(model_id=model_id, **values)
        return ModelEntry(spec=spec, line=at.start_mark.line + 1, versions=versions)

    def _versions(self, node: yaml.Node | None, place: str) -> tuple[VersionEntry, ...]:
        entries = [
            self._version(key, at, value, f"{place}.{key}")
            for key, at, value in self._entries(node, place, quoted="a version is text")
        ]
        champions = [entry for entry in entries if entry.role is Role.PRIMARY]
        for entry in champions[1:]:
            first = champions[0]
            fact = f"a second PRIMARY: {first.version!r} (line {first.line}) is PRIMARY already"
            self.problems.add(entry.line, f"{place}.{entry.version}.role", fact)
        return tuple(entries)

    def _version(self, version: str, at: yaml.Node, node: yaml.Node, place: str) -> VersionEntry:
        if not _VERSION.fullmatch(version):
            self.problems.add(at, place, "a version has 1 to 64 characters, without '@', ',' and spaces")
        held = self._fields(node, place, ("role", "since", "params", "entrypoint", "notes"))
        readers: dict[str, Callable[[yaml.Node, str], object]] = {
            "role": self._role,
            "since": self._instant,
            "params": self._json,
            "entrypoint": self._entrypoint,
            "notes": self._text,
        }
        values: dict[str, Any] = {}  # Any: what each field reads as
        for name, value in held.items():
            read = readers[name](value, f"{place}.{name}")
            if read is not None:
                values[name] = read
        if "since" in values and values.get("role") is None and "role" not in held:
            self.problems.add(held["since"], f"{place}.since", "there is no role for it to be the start of")
        return VersionEntry(version=version, line=at.start_mark.line + 1, **values)

    def _check_edges(self) -> None:
        """Find unknown upstreams and loops, registered models that the file leaves alone included."""
        cycles = {name: spec.cycle_id for name, spec in self.registered.items()} | self.model_cycles
        graph = {name: list(spec.depends_on) for name, spec in self.registered.items()}
        graph |= {name: [upstream for upstream, _ in pairs] for name, pairs in self.edges.items()}
        for model_id, pairs in self.edges.items():
            place = f"models.{model_id}.depends_on"
            for upstream, node in pairs:
                if upstream not in cycles:
                    fact = f"{upstream!r} is not registered{hint(upstream, cycles.keys() - {model_id})}"
                    self.problems.add(node, place, fact)
                elif cycles[upstream] != cycles[model_id]:
                    self.problems.add(node, place, f"{upstream!r} belongs to cycle {cycles[upstream]!r}")
        told: set[frozenset[str]] = set()
        for model_id, pairs in self.edges.items():
            for upstream, node in pairs:
                back = _path(graph, upstream, model_id)
                if back and frozenset(back) not in told:
                    told.add(frozenset(back))
                    path = " -> ".join([model_id, *back])
                    self.problems.add(node, f"models.{model_id}.depends_on", f"dependency loop: {path}")

    # Mappings.

    def _entries(
        self, node: yaml.Node | None, place: str, quoted: str = "an id is text"
    ) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """Return (key, key node, value node) of a mapping whose keys are names."""
        if node is None or node.tag == f"{_TAG}null":
            return []
        if not isinstance(node, yaml.MappingNode):
            self.problems.add(node, place, "must be a mapping")
            return []
        entries: list[tuple[str, yaml.Node, yaml.Node]] = []
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.problems.add(key, place, "a key must be a name")
            elif key.value in seen:
                self.problems.add(key, f"{place}.{key.value}", f"stands at line {seen[key.value]} already")
            else:
                seen[key.value] = key.start_mark.line + 1
                if key.tag != f"{_TAG}str":
                    fact = f'{quoted}: write it in quotes, "{key.value}"'
                    self.problems.add(key, f"{place}.{key.value}", fact)
                entries.append((key.value, key, value))
        return entries

    def _fields(
        self, node: yaml.Node, place: str, known: tuple[str, ...], required: tuple[str, ...] = ()
    ) -> dict[str, yaml.Node]:
        """Return a mapping's known fields that are not null; note the unknown and the missing ones."""
        held = {}
        for key, at, value in self._entries(node, place):
            if key not in known:
                self.problems.add(at, f"{place}.{key}", f"unknown field{hint(key, known)}")
            elif value.tag != f"{_TAG}null":
                held[key] = value
        for name in required:
            if name not in held:
                self.problems.add(node, f"{place}.{name}", "is missing")
        return held

    # Values: each returns None after it has noted a problem.

    def _id(self, node: yaml.Node, place: str, value: str) -> None:
        with self.problems.at(node, place):
            require_id("the id", value)

    def _text(self, node: yaml.Node, place: str) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}str":
            return str(node.value)
        self.problems.add(node, place, "must be text; write it in quotes")
        return None

    def _one_of(self, node: yaml.Node, place: str, known: Collection[str]) -> str | None:
        text = self._text(node, place)
        if text is None or text in known:
            return text
        near = nearest(text, known)
        told = f"; the nearest name is {str(near)!r}" if near else ""
        self.problems.add(node, place, f"{text!r} is not one of {', '.join(known)}{told}")
        return None

    def _role(self, node: yaml.Node, place: str) -> Role | None:
        text = self._one_of(node, place, [*Role])
        return Role(text) if text else None

    def _execution(self, node: yaml.Node, place: str) -> Execution | None:
        text = self._one_of(node, place, [*Execution])
        return Execution(text) if text else None

    def _flag(self, node: yaml.Node, place: str) -> bool | None:
        if node.tag == f"{_TAG}bool":
            return str(node.value).lower() in {"true", "yes", "on"}
        self.problems.add(node, place, "must be true or false")
        return None

    def _count(self, node: yaml.Node, place: str) -> int | None:
        if node.tag == f"{_TAG}int" and str(node.value).isdecimal() and 0 < int(node.value) < 2**31:
            return int(node.value)
        self.problems.add(node, place, "must be a whole number, 1 or more")
        return None

    def _cron(self, node: yaml.Node, place: str) -> str | None:
        text = self._text(node, place)
        if text is None:
            return None
        fact = cron_problem(text)
        if fact:
            self.problems.add(node, place, fact)
        return None if fact else text

    def _duration(self, node: yaml.Node, place: str) -> timedelta | None:
        match = _LOOKBACK.fullmatch(str(node.value)) if isinstance(node, yaml.ScalarNode) else None
        try:
            length = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()
        except OverflowError:
            length = timedelta()
        if length:
            return length
        self.problems.add(node, place, "must be a length of time such as 90s, 60m, 2h, 1d or 1w")
        return None

    def _instant(self, node: yaml.Node, place: str) -> datetime | None:
        text = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            self.problems.add(node, place, "must be an instant such as 2026-01-31T00:00:00Z")
            return None
        if instant.tzinfo is None and len(text) > 10:
            self.problems.add(node, place, f"{text} has no time zone: write {instant.isoformat()}Z for UTC")
            return None
        return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)

    def _entrypoint(self, node: yaml.Node, place: str) -> str | None:
        text = self._text(node, place)
        if text is None or _ENTRYPOINT.fullmatch(text):
            return text
        self.problems.add(node, place, f"{text!r} is neither the name of an entry point nor module:Class")
        return None

    def _names(self, node: yaml.Node | None, place: str) -> list[tuple[str, yaml.Node]]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.problems.add(node, place, "must be a list of model ids")
            return []
        return [(text, item) for item in node.value if (text := self._text(item, place))]

    def _json(self, node: yaml.Node, place: str) -> Mapping[str, Any] | None:  # Any: a JSON object
        if not isinstance(node, yaml.MappingNode):
            self.problems.add(node, place, "must be a mapping")
            return None
        before = len(self.problems.found)
        self._check_json(node, place)
        if len(self.problems.found) > before:
            return None
        loader = yaml.SafeLoader("")
        value: Mapping[str, Any] = loader.construct_document(node)
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            self.problems.add(node, place, f"is no JSON: {error}")
            return None
        return value

    def _check_json(self, node: yaml.Node, place: str) -> None:
        """Note each key that is no text and each value that JSON does not have."""
        if isinstance(node, yaml.MappingNode):
            for key, at, value in self._entries(node, place, quoted="a key is text"):
                del at
                self._check_json(value, f"{place}.{key}")
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                self._check_json(item, f"{place}[{number}]")
        elif node.tag.removeprefix(_TAG) not in {"str", "int", "float", "bool", "null"}:
            self.problems.add(node, place, f"{node.value!r} is no JSON value: write it in quotes")
        elif node.tag == f"{_TAG}float" and str(node.value).lower().lstrip("+-") in {".inf", ".nan"}:
            self.problems.add(node, place, f"{node.value} is no JSON number")


def _path(graph: Mapping[str, list[str]], start: str, end: str) -> list[str]:
    """Return a shortest path from `start` to `end` along the edges, both included; empty if there is none."""
    paths, seen = [[start]], {start}
    for path in paths:
        if path[-1] == end:
            return path
        for following in sorted(graph.get(path[-1], [])):
            if following not in seen:
                seen.add(following)
                paths.append([*path, following])
    return []
