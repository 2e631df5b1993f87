"""Reading a registration file: YAML nodes with their lines become checked entries, key by key of `keys`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter

import yaml

from airflow_detection.domain.cron import zoned
from airflow_detection.domain.garbage import no_collector
from airflow_detection.domain.names import dag_id_of, task_id_of
from airflow_detection.domain.specs import CycleSpec, ModelSpec, Role, require_plain
from airflow_detection.engine.plan import shortest_loop
from airflow_detection.errors import DependencyLoop, hint
from airflow_detection.registration.entries import CycleEntry, ModelEntry, Registration, VersionEntry
from airflow_detection.registration.keys import (
    CYCLE_KEYS,
    FILE_KEYS,
    MODEL_ID,
    MODEL_KEYS,
    VERSION,
    VERSION_KEYS,
)
from airflow_detection.registration.nodes import compose, resolve_merges
from airflow_detection.registration.values import Problems, ValueReader

_MODEL_ID, _VERSION = re.compile(MODEL_ID), re.compile(VERSION)
MAX_REPEATED_NODES = 100_000
"""Values that aliases may repeat in one file: a file of a kilobyte can stand for billions."""


def parse(
    text: str, source: str, *, cycles: Collection[str] = (), models: Iterable[ModelSpec] = ()
) -> Registration:
    """Read a file's text; `cycles` and `models` are what is registered already.

    Raises:
        RegistrationError: every problem at once, one line each: `source:line: field: reason`.
    """
    problems = Problems(source)
    with no_collector():
        return _parse(text, problems, cycles, models)


def _parse(
    text: str, problems: Problems, cycles: Collection[str], models: Iterable[ModelSpec]
) -> Registration:
    try:
        root = compose(text)
        if root is not None and "&" in text and (repeated := _repeated_nodes(root)) > MAX_REPEATED_NODES:
            reason = f"aliases repeat {repeated:.6g} values: must be at most {MAX_REPEATED_NODES}"
            problems.add(1, "YAML", reason)
            problems.raise_all()
        if root is not None and "<<" in text:
            resolve_merges(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.add(mark.line + 1 if mark else 1, "YAML", str(error.problem or error.context))
    except RecursionError:
        problems.add(1, "YAML", "is nested too deep")
    except yaml.YAMLError as error:
        problems.add(1, "YAML", str(error).splitlines()[0])
    else:
        if root is None:
            problems.add(1, "file", "is empty")
        else:
            return _Reader(problems, cycles, models).read(root)
    problems.raise_all()
    return Registration()


def _repeated_nodes(root: yaml.Node) -> int:
    """Return how many nodes a file has beyond those that are written in it, because aliases repeat them."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 0
            sizes[id(node)] = 1 + sum(map(size, _children(node)))
        elif not sizes[id(node)]:
            raise yaml.MarkedYAMLError(
                problem="an alias is inside its own anchor", problem_mark=node.start_mark
            )
        return sizes[id(node)]

    return size(root) - len(sizes)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        yield from (part for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


class _Reader(ValueReader):
    """Turns YAML nodes into entries, and goes on after a problem to find the next."""

    def __init__(self, problems: Problems, cycles: Collection[str], models: Iterable[ModelSpec]) -> None:
        super().__init__(problems)
        self.known_cycles = set(cycles)
        self.registered = {spec.model_id: spec for spec in models}
        self.edges: dict[str, list[tuple[str, yaml.Node]]] = {}
        self.model_cycles: dict[str, str] = {}

    def read(self, root: yaml.Node) -> Registration:
        top = self.fields(root, "file", FILE_KEYS)
        cycle_nodes = self.entries(top.get("cycles"), "cycles")
        registered, nodes = self.known_cycles, {key: at for key, at, _ in cycle_nodes}
        self.known_cycles = registered | nodes.keys()
        self._check_dags(registered, nodes)
        cycles = [cycle for key, at, node in cycle_nodes if (cycle := self._cycle(key, at, node))]
        model_nodes = self.entries(top.get("models"), "models")
        models = [entry for key, at, node in model_nodes if (entry := self._model(key, at, node))]
        self._check_edges()
        self._check_tasks({key: at for key, at, _ in model_nodes})
        self.problems.raise_all()
        return Registration(cycles=tuple(cycles), models=tuple(models))

    # The parts of a file.

    def _cycle(self, cycle_id: str, at: yaml.Node, node: yaml.Node) -> CycleEntry | None:
        place = f"cycles.{cycle_id}"
        before = len(self.problems.noted)
        self.checked_id(at, place, cycle_id)
        values = self.values(self.fields(node, place, CYCLE_KEYS), CYCLE_KEYS, place)
        timezone = values.pop("timezone", "UTC")
        if len(self.problems.noted) > before:
            return None
        values["schedule"] = zoned(values["schedule"], timezone)
        return CycleEntry(spec=CycleSpec(cycle_id=cycle_id, **values), line=at.start_mark.line + 1)

    def _model(self, model_id: str, at: yaml.Node, node: yaml.Node) -> ModelEntry | None:
        place = f"models.{model_id}"
        before = len(self.problems.noted)
        self.checked_id(at, place, model_id)
        if model_id not in self.registered and not _MODEL_ID.fullmatch(model_id):
            self.problems.add(at, place, "a model id is of the characters a-z, 0-9, '_', '.' and '-'")
        fields = self.fields(node, place, MODEL_KEYS)
        self.edges[model_id] = self.names(fields.pop("depends_on", None), f"{place}.depends_on")
        version_node = fields.pop("versions", None)
        values = self.values(fields, MODEL_KEYS, place)
        cycle_id = values.pop("cycle", "")
        if cycle_id and cycle_id not in self.known_cycles:
            reason = f"{cycle_id!r} is not registered{hint(cycle_id, self.known_cycles)}"
            self.problems.add(fields["cycle"], f"{place}.cycle", reason)
        self.model_cycles[model_id] = cycle_id
        depends_on = tuple(sorted({name for name, _ in self.edges[model_id]}))
        versions = self._versions(version_node, f"{place}.versions")
        if len(self.problems.noted) > before:
            return None
        spec = ModelSpec(model_id=model_id, cycle_id=cycle_id, depends_on=depends_on, **values)
        return ModelEntry(spec=spec, line=at.start_mark.line + 1, versions=versions)

    def _versions(self, node: yaml.Node | None, place: str) -> tuple[VersionEntry, ...]:
        entries = [
            self._version(key, at, value, f"{place}.{key}")
            for key, at, value in self.entries(node, place, quoted="a version is text")
        ]
        champions = [entry for entry in entries if entry.role is Role.PRIMARY]
        for entry in champions[1:]:
            first = champions[0]
            reason = f"a second PRIMARY: {first.version!r} (line {first.line}) is PRIMARY already"
            self.problems.add(entry.line, f"{place}.{entry.version}.role", reason)
        return tuple(entries)

    def _version(self, version: str, at: yaml.Node, node: yaml.Node, place: str) -> VersionEntry:
        if not _VERSION.fullmatch(version):
            self.problems.add(at, place, "a version has 1 to 64 characters, without '@', ',' and spaces")
        with self.problems.at(at, place):
            require_plain("the version", version)
        fields = self.fields(node, place, VERSION_KEYS)
        values = self.values(fields, VERSION_KEYS, place)
        if "since" in values and values.get("role") is None and "role" not in fields:
            self.problems.add(fields["since"], f"{place}.since", "there is no role for it to be the start of")
        return VersionEntry(version=version, line=at.start_mark.line + 1, **values)

    def _check_dags(self, registered: Collection[str], nodes: Mapping[str, yaml.Node]) -> None:
        """Refuse a new cycle that would have another's Dag."""
        first: dict[str, str] = {}
        written_so = sorted(nodes.keys() - set(registered), key=lambda c: dag_id_of(c) != f"detection_{c}")
        for cycle_id in (*sorted(registered), *written_so):
            other = first.setdefault(dag_id_of(cycle_id), cycle_id)
            if other != cycle_id and cycle_id not in registered:
                reason = f"would have the Dag {dag_id_of(cycle_id)} of cycle {other!r}: give it another id"
                self.problems.add(nodes[cycle_id], f"cycles.{cycle_id}", reason)

    def _check_tasks(self, nodes: Mapping[str, yaml.Node]) -> None:
        """Refuse a new model that would have another's task in the same cycle."""
        cycles = {name: spec.cycle_id for name, spec in self.registered.items()} | self.model_cycles
        first: dict[tuple[str, str], str] = {}
        written_so = sorted(nodes.keys() - self.registered.keys(), key=lambda m: task_id_of(m) != m)
        for model_id in (*sorted(self.registered), *written_so):
            other = first.setdefault((cycles[model_id], task_id_of(model_id)), model_id)
            if other != model_id and model_id not in self.registered:
                reason = f"would have the task {task_id_of(model_id)} of model {other!r}: give it another id"
                self.problems.add(nodes[model_id], f"models.{model_id}", reason)

    def _check_edges(self) -> None:
        """Find unknown upstreams and loops, registered models that the file leaves alone included."""
        cycles = {name: spec.cycle_id for name, spec in self.registered.items()} | self.model_cycles
        graph = {name: list(spec.depends_on) for name, spec in self.registered.items()}
        graph |= {name: [upstream for upstream, _ in pairs] for name, pairs in self.edges.items()}
        for model_id, pairs in self.edges.items():
            place = f"models.{model_id}.depends_on"
            for upstream, node in pairs:
                if upstream not in cycles:
                    reason = f"{upstream!r} is not registered{hint(upstream, cycles.keys() - {model_id})}"
                    self.problems.add(node, place, reason)
                elif cycles[upstream] != cycles[model_id]:
                    self.problems.add(node, place, f"{upstream!r} belongs to cycle {cycles[upstream]!r}")
        with suppress(CycleError):
            TopologicalSorter(graph).prepare()
            return
        reported: set[frozenset[str]] = set()
        for model_id, pairs in self.edges.items():
            for upstream, node in pairs:
                loop = shortest_loop(model_id, graph, via=upstream)
                if loop and frozenset(loop) not in reported:
                    reported.add(frozenset(loop))
                    self.problems.add(node, f"models.{model_id}.depends_on", str(DependencyLoop(loop)))
