"""The site: every page is in the navigation, links lead to places, the reference has every name, and it builds."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from documented import DOCS, page

import raysplit
from raysplit.cli.main import COMMANDS

pytest.importorskip("sphinx", reason="the extra docs is not installed")
sys.path.append(str(DOCS / "building"))
import generated
import llms
import source

ROOT = DOCS.parent
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
TEXTS = [*PAGES, *ROOT.glob("*.md"), *ROOT.glob("benchmarks/*/README.md")]
NAMES = {path.relative_to(DOCS).with_suffix("").as_posix() for path in PAGES}


def without_code(text: str) -> str:
    return re.sub(r"^( *)```.*?^\1```$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The places within a page that a link may name."""
    return {generated.slug(title) for title in re.findall(r"^#+ (.+)$", source.text_of(path), re.MULTILINE)}


def test_every_page_is_in_the_navigation_once() -> None:
    listed = [name for names in llms.trees().values() for name in names]
    assert sorted(listed) == sorted(NAMES - {"index"})


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_of_the_pages_leads_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)]*))?\)", without_code(path.read_text("utf-8"))):
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), f"{path.name}: {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{path.name}: {target}#{anchor}"


def test_every_public_name_is_in_the_reference() -> None:
    shown = re.findall(r"^\.\. auto(?:function|class|exception):: raysplit\.(\w+)$", page("api"), re.MULTILINE)
    assert sorted(shown) == sorted(set(raysplit.__all__) - {"__version__"})


def test_the_page_of_commands_has_every_option() -> None:
    text = generated.commands()
    assert "### raysplit train\n" in text
    assert "#### raysplit cluster up\n" in text
    assert "`--set KEY=VALUE`\n: Override one setting; repeatable.\n" in text
    assert text.count("\n### raysplit ") == len(COMMANDS)


def test_links_out_of_the_pages_stay_on_the_site() -> None:
    assert "](project/security.md)" in source.text_of(DOCS / "trust.md")
    assert "](../fine-tuning.md#steps)" in source.text_of(DOCS / "project" / "changelog.md")
    assert "](examples.md#scaffoldpy)" in source.text_of(DOCS / "own-parts.md")


def test_the_list_for_programs_that_read_is_current() -> None:
    written = (ROOT / "llms.txt").read_text(encoding="utf-8")
    assert written == "\n".join(llms.lines()), "run: make pages"
    assert not re.search(r"\): $", written, re.MULTILINE)  # every page begins with a sentence


class _Page(HTMLParser):
    """The places and the links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.places |= {value for key in ("id", "name") if (value := found.get(key))}
        self.links += [value for key in ("href", "src") if (value := found.get(key))]


@pytest.mark.slow
def test_the_site_builds_and_its_links_lead_to_places(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", tmp_path / "trees"]
    done = subprocess.run([*build, DOCS, tmp_path / "html"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in (tmp_path / "html").rglob("*.html")}
    assert len(pages) >= len(NAMES)
    broken = []
    for path, found in pages.items():
        for link in found.links:
            target, _, place = unquote(link).partition("#")
            if re.match(r"\w+:", target):
                continue
            file = (path.parent / target.partition("?")[0]).resolve() if target else path
            if not file.exists() or (place and file in pages and place not in pages[file].places):
                broken.append(f"{path.relative_to(tmp_path)}: {link}")
    assert not broken
