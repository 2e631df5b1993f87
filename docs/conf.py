"""Configuration of the documentation's site: `make docs` builds it, and a warning is an error there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

project = "airflow-provider-detection"
html_title = "Detection on Airflow"
html_theme = "furo"
html_copy_source = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_site"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other packages in signatures
default_role = "code"
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
linkcheck_ignore = [r"http://(localhost|127\.0\.0\.1)"]


def _generate(app: Sphinx) -> None:
    import generated

    generated.write(DOCS / "reference" / "generated")


def setup(app: Sphinx) -> None:
    """Write the generated pages before the others are read."""
    app.connect("builder-inited", _generate)
