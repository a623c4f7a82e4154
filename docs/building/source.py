"""The text of a page before Sphinx parses it: files from outside `docs/`, links to them, and what the code knows.

* A page that is one link and nothing else, `[Changelog](../../CHANGELOG.md)`, shows the file that it leads to.
* A link to such a file, or to an example, leads to its place on the site, so that nothing leaves it.
* A block `{commands}`, `{options} NAME`, `{code} MODULE:NAME` or `{examples} PATTERN` is replaced by what `generated`
  writes.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import generated
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_ONE_LINK = re.compile(r"\A\[[^\]]+\]\((?P<target>[^)#]+)\)\s*\Z")
_LINK = re.compile(r"\]\((?!\w+:|#)(?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)")
_FENCE = re.compile(r"^```.*?^```[^\n]*$", re.DOTALL | re.MULTILINE)
_BLOCK = re.compile(r"^```\{(?P<name>commands|options|code|examples)\} *(?P<argument>[^\n]*)\n```$", re.MULTILINE)


def shown(page: Path) -> Path:
    """Return the file whose text a page shows: itself, or the one that its only link leads to."""
    one = _ONE_LINK.match(page.read_text(encoding="utf-8"))
    return (page.parent / one["target"]).resolve() if one else page


@cache
def places() -> dict[Path, Path]:
    """Return the page of each file that another page shows."""
    pages = [page for page in DOCS.rglob("*.md") if "_build" not in page.parts]
    return {file: page for page in pages if (file := shown(page)) != page}


def on_site(target: Path, anchor: str) -> tuple[Path, str]:
    """Return the file within `docs/` that stands for a file of the repository, and the place within it."""
    if target in places():
        return places()[target], anchor
    if target == ROOT / "examples":
        return DOCS / "examples.md", ""
    if target.parent == ROOT / "examples":
        return DOCS / "examples.md", "#" + generated.slug(target.name)
    return target, anchor


def text_of(page: Path) -> str:
    """Return the text of a page as the site has it."""
    file = shown(page)
    text = file.read_text(encoding="utf-8")

    def moved(found: re.Match[str]) -> str:
        target, anchor = on_site((file.parent / found["target"]).resolve(), found["anchor"] or "")
        return f"]({os.path.relpath(target, page.parent)}{anchor})"

    whole, last = [], 0
    for fence in _FENCE.finditer(text):
        whole += [_LINK.sub(moved, text[last : fence.start()]), fence[0]]
        last = fence.end()
    whole.append(_LINK.sub(moved, text[last:]))
    return _BLOCK.sub(lambda block: generated.WRITERS[block["name"]](block["argument"]), "".join(whole))


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    source[0] = text_of(page)
    app.env.note_dependency(str(shown(page)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Have Sphinx read its pages through `text_of`."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
