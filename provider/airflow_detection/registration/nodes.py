"""YAML text as nodes: scanned by libyaml where PyYAML has it, ten times as fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from yaml.composer import Composer
from yaml.resolver import Resolver

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
