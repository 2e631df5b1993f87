"""The values of a registration file, read from YAML nodes; every problem is noted with its line."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from airflow_detection.domain.cron import cron_problem, split_zone, zone_problem
from airflow_detection.domain.scores import Events, event_problems
from airflow_detection.domain.specs import (
    Artifact,
    Execution,
    Role,
    artifact_problems,
    require_id,
    require_plain,
)
from airflow_detection.domain.text import visible
from airflow_detection.errors import RegistrationError, hint, nearest
from airflow_detection.evidence.policy import policy_problems
from airflow_detection.registration.keys import (
    DEADLINE_KEYS,
    FIRST_YEAR,
    LAST_YEAR,
    LINK,
    MAX_TAG_LENGTH,
    Key,
)
from airflow_detection.registration.nodes import is_read_differently
from airflow_detection.registration.task_options import default_arg_problems, option_problems
from airflow_detection.store.json_bounds import MAX_DEPTH, problems_of
from airflow_detection.store.registry import MAX_LOOKBACK

_LOOKBACK = re.compile(r"(\d{1,9})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_ENTRYPOINT = re.compile(r"[A-Za-z_][\w-]*|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_LINK = re.compile(LINK)
_TAG = "tag:yaml.org,2002:"
_JSON_TAGS = frozenset({"str", "int", "float", "bool", "null"})


class Problems:
    """The problems of one file, by line."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.noted: list[tuple[int, str, str]] = []

    def add(self, where: yaml.Node | int, place: str, reason: str) -> None:
        line = where if isinstance(where, int) else where.start_mark.line + 1
        self.noted.append((line, place, reason))

    @contextmanager
    def at(self, where: yaml.Node | int, place: str) -> Iterator[None]:
        """Note a RegistrationError or ValueError of the block as a problem of this place."""
        try:
            yield
        except (RegistrationError, ValueError) as error:
            self.add(where, place, str(error))

    def raise_all(self) -> None:
        if self.noted:
            lines = (f"{line}: {place}: {reason}" for line, place, reason in sorted(set(self.noted)))
            raise RegistrationError("\n".join(f"{self.source}:{visible(line)}" for line in lines))


class ValueReader:
    """Reads nodes, and goes on after a problem to find the next.

    A method that reads a value returns None after it has noted a problem.
    """

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def entries(
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
                if key.tag != f"{_TAG}str" or is_read_differently(key):
                    reason = f'{quoted}: write it in quotes, "{key.value}"'
                    self.problems.add(key, f"{place}.{key.value}", reason)
                entries.append((key.value, key, value))
        return entries

    def fields(self, node: yaml.Node, place: str, keys: Sequence[Key]) -> dict[str, yaml.Node]:
        """Return a mapping's known fields that are not null; note the unknown and the missing ones."""
        fields = {}
        known = [key.name for key in keys]
        for key, at, value in self.entries(node, place):
            if key not in known:
                self.problems.add(at, f"{place}.{key}", f"unknown field{hint(key, known)}")
            elif value.tag != f"{_TAG}null":
                fields[key] = value
        for required in (key.name for key in keys if key.is_required):
            if required not in fields:
                self.problems.add(node, f"{place}.{required}", "is missing")
        return fields

    def values(
        self, fields: Mapping[str, yaml.Node], keys: Iterable[Key], place: str
    ) -> dict[str, Any]:  # Any: what each key reads as
        """Read each key that there is; one that cannot be read is noted, and left out."""
        values: dict[str, Any] = {}  # Any: as above
        for key in keys:
            if key.name in fields:
                read = getattr(self, key.kind.reader)(fields[key.name], f"{place}.{key.name}")
                if read is not None:
                    values[key.name] = read
        return values

    def checked_id(self, node: yaml.Node, place: str, value: str) -> None:
        with self.problems.at(node, place):
            require_plain("the id", require_id("the id", value))

    def text(self, node: yaml.Node, place: str) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}str" and not is_read_differently(node):
            return str(node.value)
        self.problems.add(node, place, "must be text; write it in quotes")
        return None

    def one_of(self, node: yaml.Node, place: str, known: Collection[str]) -> str | None:
        text = self.text(node, place)
        if text is None or text in known:
            return text
        closest = nearest(text, known)
        suggestion = f"; the nearest name is {str(closest)!r}" if closest else ""
        self.problems.add(node, place, f"{text!r} is not one of {', '.join(known)}{suggestion}")
        return None

    def role(self, node: yaml.Node, place: str) -> Role | None:
        text = self.one_of(node, place, [*Role])
        return Role(text) if text else None

    def execution(self, node: yaml.Node, place: str) -> Execution | None:
        text = self.one_of(node, place, [*Execution])
        return Execution(text) if text else None

    def flag(self, node: yaml.Node, place: str) -> bool | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}bool" and not is_read_differently(node):
            return str(node.value).lower() == "true"
        self.problems.add(node, place, "must be true or false")
        return None

    def count(self, node: yaml.Node, place: str) -> int | None:
        is_short = node.tag == f"{_TAG}int" and re.fullmatch(r"[1-9]\d{0,9}", str(node.value), re.ASCII)
        if is_short and int(node.value) < 2**31:
            return int(node.value)
        self.problems.add(node, place, "must be a whole number, 1 or more")
        return None

    def cron(self, node: yaml.Node, place: str) -> str | None:
        text = self.text(node, place)
        if text is None:
            return None
        is_zoned = split_zone(text) != (text, "UTC")
        reason = "its time zone is the key timezone" if is_zoned else cron_problem(text)
        if reason:
            self.problems.add(node, place, reason)
        return None if reason else text

    def zone(self, node: yaml.Node, place: str) -> str | None:
        text = self.text(node, place)
        reason = None if text is None else zone_problem(text)
        if reason:
            self.problems.add(node, place, reason)
        return None if reason else text

    def texts(self, node: yaml.Node, place: str) -> tuple[str, ...] | None:
        before = len(self.problems.noted)
        if not isinstance(node, yaml.SequenceNode):
            self.problems.add(node, place, "must be a list of texts")
            return None
        for item in node.value:
            text = self.text(item, place)
            if text is not None and not 0 < len(text) <= MAX_TAG_LENGTH:
                reason = f"must have texts of 1 to {MAX_TAG_LENGTH} characters, not {len(text)}"
                self.problems.add(item, place, reason)
        return None if len(self.problems.noted) > before else tuple(item.value for item in node.value)

    def duration(self, node: yaml.Node, place: str) -> timedelta | None:
        match = _LOOKBACK.fullmatch(str(node.value)) if isinstance(node, yaml.ScalarNode) else None
        try:
            length = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()
        except OverflowError:
            length = timedelta.max
        if length > MAX_LOOKBACK:
            self.problems.add(node, place, f"must be at most {MAX_LOOKBACK.days} days")
        elif length:
            return length
        else:
            self.problems.add(node, place, "must be a length of time such as 90s, 60m, 2h, 1d or 1w")
        return None

    def instant(self, node: yaml.Node, place: str) -> datetime | None:
        text = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            self.problems.add(node, place, "must be an instant such as 2026-01-31T00:00:00Z")
            return None
        if not FIRST_YEAR <= instant.year <= LAST_YEAR:
            self.problems.add(node, place, f"must lie between the years {FIRST_YEAR} and {LAST_YEAR}")
            return None
        if instant.tzinfo is None and len(text) > 10:
            self.problems.add(node, place, f"{text} has no time zone: write {instant.isoformat()}Z for UTC")
            return None
        return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)

    def entrypoint(self, node: yaml.Node, place: str) -> str | None:
        text = self.text(node, place)
        if text is None or _ENTRYPOINT.fullmatch(text):
            return text
        self.problems.add(node, place, f"{text!r} is neither the name of an entry point nor module:Class")
        return None

    def function(self, node: yaml.Node, place: str) -> str | None:
        text = self.text(node, place)
        if text is None or (":" in text and _ENTRYPOINT.fullmatch(text)):
            return text
        self.problems.add(node, place, f"{text!r} is not module:function")
        return None

    def names(self, node: yaml.Node | None, place: str) -> list[tuple[str, yaml.Node]]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.problems.add(node, place, "must be a list of model ids")
            return []
        return [(text, item) for item in node.value if (text := self.text(item, place))]

    def json_object(self, node: yaml.Node, place: str) -> Mapping[str, Any] | None:  # Any: a JSON object
        if not isinstance(node, yaml.MappingNode):
            self.problems.add(node, place, "must be a mapping")
            return None
        before = len(self.problems.noted)
        loader = yaml.SafeLoader("")
        self._check_json(loader, node, place)
        if len(self.problems.noted) > before:
            return None
        value: Mapping[str, Any] = loader.construct_document(node)
        return value

    def task_options(self, node: yaml.Node, place: str) -> Mapping[str, Any] | None:  # Any: a JSON object
        return self._options(node, place, option_problems)

    def default_args(self, node: yaml.Node, place: str) -> Mapping[str, Any] | None:  # Any: a JSON object
        return self._options(node, place, default_arg_problems)

    def links(self, node: yaml.Node, place: str) -> Mapping[str, str] | None:
        before = len(self.problems.noted)
        links = self.json_object(node, place) or {}
        lines = {key: at for key, at, _ in self.entries(node, place)} if links else {}
        for owner, link in links.items():
            if not isinstance(link, str) or not _LINK.match(link):
                reason = f"must be an address with https://, http:// or mailto:, not {reprlib.repr(link)}"
                self.problems.add(lines[owner], f"{place}.{owner}", reason)
        return None if len(self.problems.noted) > before else links

    def deadline(self, node: yaml.Node, place: str) -> Mapping[str, Any] | None:  # Any: a JSON object
        before = len(self.problems.noted)
        values = self.values(self.fields(node, place, DEADLINE_KEYS), DEADLINE_KEYS, place)
        if len(self.problems.noted) > before:
            return None
        return {"after_s": values["after"].total_seconds(), "callback": values["callback"]}

    def events(self, node: yaml.Node, place: str) -> Events | None:
        if node.tag == f"{_TAG}bool":
            if self.flag(node, place) is False:
                return False
            self.problems.add(node, place, "must be false, or a mapping of above and severity")
            return None
        return self._options(node, place, event_problems)

    def promotion(self, node: yaml.Node, place: str) -> Mapping[str, Any] | None:  # Any: a JSON object
        return self._options(node, place, policy_problems)

    def artifact(self, node: yaml.Node, place: str) -> Artifact | None:
        before = len(self.problems.noted)
        values = self._options(node, place, artifact_problems)
        return Artifact.of(values) if len(self.problems.noted) == before else None

    def _options(
        self,
        node: yaml.Node,
        place: str,
        problems_of_options: Callable[[Mapping[str, Any]], Iterator[tuple[str, str]]],
    ) -> Mapping[str, Any] | None:  # Any: a JSON object
        options = self.json_object(node, place)
        if options is None:
            return None
        for key, reason in problems_of_options(options):
            self.problems.add(self._key_node(node, place, key.split(".")), f"{place}.{key}", reason)
        return options

    def _key_node(self, node: yaml.Node, place: str, path: Sequence[str]) -> yaml.Node:
        """Return the node of the last key of a path, or of the last that there is."""
        for key, at, value in self.entries(node, place):
            if path and key == path[0]:
                return self._key_node(value, f"{place}.{key}", path[1:]) if path[1:] else at
        return node

    def _check_json(self, loader: yaml.SafeLoader, node: yaml.Node, place: str, depth: int = 0) -> None:
        """Note each key that is not text and each value that JSON, or a plan, cannot hold."""
        if depth > MAX_DEPTH:
            self.problems.add(node, _short(place), f"is nested more than {MAX_DEPTH} levels deep")
        elif isinstance(node, yaml.MappingNode):
            for key, at, value in self.entries(node, place, quoted="a key is text"):
                for _, reason in problems_of(place, {key: None}):
                    self.problems.add(at, place, reason)
                self._check_json(loader, value, f"{place}.{key}", depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                self._check_json(loader, item, f"{place}[{number}]", depth + 1)
        elif not isinstance(node, yaml.ScalarNode) or node.tag.removeprefix(_TAG) not in _JSON_TAGS:
            self.problems.add(node, place, f"{node.value!r} is not a JSON value: write it in quotes")
        else:
            self._check_leaf(loader, node, place)

    def _check_leaf(self, loader: yaml.SafeLoader, node: yaml.ScalarNode, place: str) -> None:
        try:
            value = loader.construct_object(node)
        except ValueError:  # Python reads no whole number of thousands of digits
            self.problems.add(node, place, "is an integer beyond 64 bits")
            return
        if is_read_differently(node):
            reason = f"YAML 1.1 and 1.2 differ on {node.value}: write it in quotes, or as 0.001, 257, true"
            self.problems.add(node, place, reason)
        for _, reason in problems_of(place, value):
            self.problems.add(node, place, reason)


def _short(place: str) -> str:
    return place if len(place) <= 100 else f"{place[:97]}..."
