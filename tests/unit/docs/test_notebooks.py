"""The notebooks, pages in jupytext's Markdown, become notebooks without loss, and run in a kernel of Jupyter's."""

from __future__ import annotations

from pathlib import Path

import pytest
from documented import DOCS, sections

jupytext = pytest.importorskip("jupytext", reason="the extra notebook is not installed")
nbclient = pytest.importorskip("nbclient")

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.md"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_block_of_code_is_a_cell(path: Path) -> None:
    cells = [cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code"]
    blocks = [block for found in sections(f"notebooks/{path.stem}").values() for block in found]
    assert cells == [block.rstrip("\n") for block in blocks]
    assert len(cells) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_text_is_what_jupytext_writes(path: Path) -> None:
    """A notebook that is edited in Jupyter and saved changes what was edited, and nothing else."""
    written = jupytext.writes(jupytext.read(path), "md")
    assert without_head(written) == without_head(path.read_text(encoding="utf-8"))


def without_head(text: str) -> str:
    """The text below the head, in which jupytext writes its own version."""
    return text.partition("\n---\n")[2].strip()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_a_kernel(path: Path, tmp_path: Path) -> None:
    """Where an event loop runs already, as in Jupyter, and each cell shows what it prints."""
    notebook = jupytext.read(path)
    client = nbclient.NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
