"""`llms.txt`, the list of all pages for programs that read, with the first sentence of each; ``python`` prints it.

The form is that of llmstxt.org. The sections are those of the site's navigation.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from source import DOCS, ROOT, shown, text_of

_TREE = re.compile(r"^```\{toctree\}\n:caption: (?P<caption>.*)\n:hidden:\n\n(?P<pages>(?:.+\n)+)```$", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def trees() -> dict[str, list[str]]:
    """Return the names of the pages by the headings of the navigation."""
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    return {tree["caption"]: [_name(line) for line in tree["pages"].splitlines()] for tree in _TREE.finditer(text)}


def _name(entry: str) -> str:
    """Return the page of a line of the navigation, which may have a title: ``MP-SL <mpsl>``."""
    return entry.rpartition("<")[2].rstrip(">")


def title(page: Path) -> str:
    """Return the first heading of a page."""
    found = re.search(r"^# (.+)$", text_of(page), re.MULTILINE)
    assert found is not None, f"{page} has no title"
    return found[1]


def first_sentence(page: Path) -> str:
    """Return the first sentence of a page's text, without links; empty where there is none."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text_of(page), flags=re.DOTALL)  # the head of a notebook
    for paragraph in re.split(r"\n\s*\n", text):
        if re.match(r"[A-Za-z*`\[]", paragraph):
            plain = _LINK.sub(r"\1", " ".join(paragraph.split()))
            return re.split(r"(?<=[.?])\s(?=[A-Z`*]|raysplit)", plain, maxsplit=1)[0].rstrip(":")
    return ""


def lines() -> Iterator[str]:
    """Yield the lines of the file."""
    yield "# raysplit\n"
    yield (
        "> Split, federated and multi-task training of neural networks across data owners that keep their data, with "
        "PyTorch on Ray.\n"
    )
    yield "`raysplit.train(model=..., data=..., algorithm=...)` in Python and `raysplit train FILE.yaml` do the same.\n"
    for caption, names in trees().items():
        yield f"## {caption}\n"
        for name in names:
            page = DOCS / f"{name}.md"
            yield f"- [{title(page)}]({shown(page).relative_to(ROOT)}): {first_sentence(page)}"
        yield ""


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()))
