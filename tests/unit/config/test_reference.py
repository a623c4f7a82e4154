"""docs/configuration.md is written from the code and explains every setting."""

from __future__ import annotations

from pathlib import Path

from raysplit.config.reference import descriptions, reference, undescribed
from raysplit.config.run import RunConfig

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_every_setting_is_explained() -> None:
    assert list(undescribed()) == []
    assert "seed" in descriptions(RunConfig)


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: make pages"


def test_rows_show_type_rule_default_and_meaning() -> None:
    page = reference()
    assert "| `patience` | whole number or null, at least 1 | null | Number of evaluations without a better" in page
    assert "| `kind` | `ray`, `local` | ray | `ray` for processes of a Ray cluster, `local` for this process. |" in page
