"""The code of the documentation: modules that a page shows in full, and the blocks of its sections."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from raysplit.given import released

EXAMPLES = Path(__file__).parents[1] / "examples"
DOCS = Path(__file__).parents[1] / "docs"
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def page(name: str) -> str:
    """The text of a page of the documentation."""
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def write_module(name: str, folder: Path, *, of: str = "own-parts") -> None:
    """Write a module as the page shows it, in a block that begins with its file name; it is imported anew."""
    block = page(of).split(f"```python\n# {name}.py\n")[1].split("```")[0]
    (folder / f"{name}.py").write_text(block, encoding="utf-8")
    sys.modules.pop(name, None)


def sections(name: str) -> dict[str, list[str]]:
    """The code blocks of a page by the heading above them, "" for the page's title, without sections that have none."""
    first, *rest = re.split(r"^## (.*)\n", page(name), flags=re.MULTILINE)
    texts = [("", first), *zip(rest[::2], rest[1::2], strict=True)]
    found = {title: _BLOCK.findall(text) for title, text in texts}
    return {title: blocks for title, blocks in found.items() if blocks}


def run_page(
    name: str, *, without: Collection[str] = (), given: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Run the code of a page as one program, and give its names.

    Args:
        without: headings whose code is left out.
        given: names that code uses which is left out.
    """
    names = {"__name__": "__main__", **given}  # as in a script: what it defines cannot be imported
    with released():
        for title, blocks in sections(name).items():
            for block in blocks if title not in without else ():
                exec(compile(block, f"docs/{name}.md: {title}", "exec"), names)
    return names
