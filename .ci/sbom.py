"""Write the software bill of materials of the wheel, in CycloneDX's JSON: what it needs without extras.

The versions are those installed here, which constraints.txt has. The time is that of the commit.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import distribution, version
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NAME = "airflow-provider-detection"


def component(name: str) -> Component:
    """Return a package as it is installed."""
    url = PackageURL("pypi", name=name, version=version(name))
    kind = ComponentType.APPLICATION if name == NAME else ComponentType.LIBRARY
    return Component(name=name, version=version(name), type=kind, purl=url, bom_ref=str(url))


def needs(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Iterate over what a package needs here: name and extras."""
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def bill(name: str) -> Bom:
    """Return the bill of a package and of everything that it needs, directly or not."""
    wanted, seen = [(name, frozenset[str]())], dict[str, set[str]]()
    edges: dict[str, set[str]] = {}
    while wanted:
        package, extras = wanted.pop()
        if package in seen and extras <= seen[package]:
            continue
        seen.setdefault(package, set()).update(extras)
        for needed, its_extras in needs(package, extras):
            edges.setdefault(package, set()).add(needed)
            wanted.append((needed, its_extras))
    components = {package: component(package) for package in sorted(seen)}
    bom = Bom(components=[c for package, c in components.items() if package != name])
    bom.metadata.component = components[name]
    bom.metadata.timestamp = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    for package, needed in sorted(edges.items()):
        bom.register_dependency(components[package], [components[n] for n in sorted(needed)])
    urls = "\n".join(str(c.purl) for c in components.values())
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, urls)
    return bom


if __name__ == "__main__":
    path = Path(sys.argv[1]) / f"{NAME}-{version(NAME)}.cdx.json"
    JsonV1Dot6(bill(NAME)).output_to_file(str(path), allow_overwrite=True, indent=1)
