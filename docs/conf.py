"""Sphinx: how `make docs` builds the site from these pages, the docstrings and the commands' own help."""

from __future__ import annotations

import sys
from pathlib import Path

import raysplit

sys.path.insert(0, str(Path(__file__).parent / "building"))

project = "raysplit"
author = "The raysplit authors"
copyright = "the raysplit authors, Apache-2.0"
version = release = raysplit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "source"]
exclude_patterns = ["_build", "building"]

myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

default_role = "py:obj"  # a name in a docstring links to what is documented here, and is code otherwise
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_use_rtype = False
napoleon_preprocess_types = False

html_theme = "furo"
html_title = f"raysplit {release}"
html_static_path = ["static"]
html_css_files = ["raysplit.css"]
html_extra_path = ["../llms.txt"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1d4ed8", "color-brand-content": "#1d4ed8"},
    "dark_css_variables": {"color-brand-primary": "#93b4ff", "color-brand-content": "#93b4ff"},
}
