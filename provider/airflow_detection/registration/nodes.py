"""YAML text as nodes: scanned by libyaml where PyYAML has it, ten times as fast."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import yaml
from yaml.composer import Composer
from yaml.resolver import Resolver

_MERGE = "tag:yaml.org,2002:merge"
_CORE_SCHEMA = (
    ("null", re.compile(r"null|Null|NULL|~|")),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE")),
    ("int", re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")),
    (
        "float",
        re.compile(
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN"
        ),
    ),
)
_OCTAL_OF_1_1 = re.compile(r"[-+]?0[0-9]+")

if TYPE_CHECKING or yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stub leaves it out

    class _Loader(Composer, CParser, Resolver):
        """Nodes of libyaml's events; its own composer has no bound for the depth, and ends the process."""

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            Resolver.__init__(self)


def compose(text: str) -> yaml.Node | None:
    """Return the root node of a YAML document; None if there is none.

    Raises:
        yaml.YAMLError, RecursionError: as PyYAML's own scanner, whose messages are the better ones.
    """
    if yaml.__with_libyaml__:
        try:
            return _Loader(text).get_single_node()
        except (yaml.YAMLError, UnicodeError):
            pass  # the other scanner names the problem, or finds none
    return yaml.compose(text, Loader=yaml.SafeLoader)


def resolve_merges(root: yaml.Node) -> None:
    """Put the entries of merge keys (`<<: *anchor`) where they stand; a mapping's own entries win.

    Raises:
        yaml.MarkedYAMLError: a merge key is given something else than a mapping, or a list of mappings.
    """
    done: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in done:
            continue
        done.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _merge(node)
            waiting += (part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _merge(node: yaml.MappingNode) -> None:
    merges = [value for key, value in node.value if key.tag == _MERGE]
    if not merges:
        return
    own = [pair for pair in node.value if pair[0].tag != _MERGE]
    names = {key.value for key, _ in own}
    for mapping in (part for value in merges for part in _mappings(value)):
        _merge(mapping)
        added = [pair for pair in mapping.value if pair[0].value not in names]
        names |= {key.value for key, _ in added}
        own += added
    node.value = own


def _mappings(value: yaml.Node) -> list[yaml.MappingNode]:
    parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
    if not all(isinstance(part, yaml.MappingNode) for part in parts):
        raise yaml.MarkedYAMLError(
            problem="a merge key needs a mapping, or a list of mappings", problem_mark=value.start_mark
        )
    return list(parts)


def is_read_differently(node: yaml.ScalarNode) -> bool:
    """Tell whether readers of YAML 1.1, such as this one, and of YAML 1.2 read a plain scalar differently.

    The rules of 1.2 are those of its core schema (YAML 1.2.2, section 10.3.2).
    """
    return not node.style and _is_ambiguous(node.value, node.tag)  # a style: in quotes, or a block


@lru_cache(maxsize=4096)
def _is_ambiguous(value: str, tag: str) -> bool:
    kind = next((name for name, pattern in _CORE_SCHEMA if pattern.fullmatch(value)), "str")
    tag = tag.removeprefix("tag:yaml.org,2002:")
    if tag in {"timestamp", "merge"}:  # text in 1.2, and read as text here
        return False
    return kind != tag or (kind == "int" and _OCTAL_OF_1_1.fullmatch(value) is not None)
