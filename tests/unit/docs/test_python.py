"""The page about Python: its code runs as it stands there, and it names what is public."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documented import EXAMPLES, page, run_page

import raysplit

ON_RAY = "On Ray"
"""The section whose code is run in the Ray session."""


@pytest.fixture(autouse=True)
def _beside_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(EXAMPLES)


def test_the_page_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    found = run_page("python", without=[ON_RAY])
    assert found["loaded"].folder == Path("runs/mine")
    assert "parties are deployed: MiniBatch-SFL" in capsys.readouterr().out
    assert '"seed"' in Path("raysplit.schema.json").read_text()


def test_the_page_names_everything_that_is_public() -> None:
    section = page("python").partition("## What is public\n")[2]
    names = set(re.findall(r"`(\w+)`", section))
    assert names == set(raysplit.__all__) - {"__version__"}
