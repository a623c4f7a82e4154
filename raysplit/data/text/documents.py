"""Documents of text: files by path or pattern, or what every Python has, its help texts and parts of its library.

``python_topics`` and ``python_packages`` differ between versions of Python, so compare runs within one.
"""

from __future__ import annotations

import glob
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from raysplit.data.failures import reading

TOPICS = "python_topics"
"""Name of the help texts of Python, 0.46 MB in version 3.11."""
PACKAGES = "python_packages"
"""Name of the sources of four packages of Python's library, a document each, 0.94 MB in version 3.11."""
_PACKAGES = ("email", "http", "json", "xml")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text.

    Attributes:
        name: path or topic.
        content: its bytes.
    """

    name: str
    content: bytes


def documents_of(place: str, root: Path) -> list[Document]:
    """Read the documents of a place, sorted by name.

    Args:
        place: `TOPICS`, `PACKAGES`, or the path of a file or a pattern such as ``letters/*.txt``, relative to ``root``;
            ``**`` stands for any folders. Hidden files are left out.
        root: folder of relative paths.

    Raises:
        ValueError: where no file is there, or one is empty or cannot be read.
    """
    if place == TOPICS:
        from pydoc_data.topics import topics

        return [Document(name=name, content=topics[name].encode()) for name in sorted(topics)]
    if place == PACKAGES:
        library = Path(sysconfig.get_path("stdlib"))
        files = {name: sorted((library / name).rglob("*.py")) for name in _PACKAGES}
        return [Document(name=name, content=b"\n".join(map(Path.read_bytes, own))) for name, own in files.items()]
    paths = sorted(Path(found) for found in glob.glob(str(root / place), recursive=True) if Path(found).is_file())
    if not paths:
        folder = root / place
        way = f"; for the files of the folder, give text:{place.rstrip('/')}/*.txt" if folder.is_dir() else ""
        raise ValueError(f"there is no file {folder}; give the path of a text, or a pattern such as texts/*.txt{way}")
    documents = []
    for path in paths:
        with reading(path, "give a file of text"):
            content = path.read_bytes()
        if not content:
            raise ValueError(f"{path} is empty; give it some text, or leave it out")
        documents.append(Document(name=_shown(path, root), content=content))
    return documents


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
