"""A log line where the bits of a codec depend on the processor and the places have several kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import settings

from raysplit.cluster.processors import Processors, processor
from raysplit.config.run import check_config


def noted(links: dict[str, Any], *kinds: str) -> None:
    processors = Processors(check_config(settings(links=links)).links.link_rules())
    for i, kind in enumerate(kinds):
        processors.add(f"place-{i}", kind)


def test_unlike_processors_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    noted({"smashed": ["c3", "int8"]}, "old", "old", "new", "new")
    (record,) = caplog.records
    assert "place-2 has new, and place-0 has old" in record.getMessage()
    assert "C3(" in record.getMessage()


@pytest.mark.parametrize("links", [{}, {"smashed": ["int4", "zstd"], "gradients": "float16", "weights": "int8"}])
def test_portable_codecs_do_not_mind(links: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    noted(links, "old", "new")
    assert not caplog.records


def test_one_kind_is_nothing_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    noted({"smashed": "product_quantization"}, "new", "new")
    assert not caplog.records


def test_the_name_of_the_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast 9000\nmodel name\t: Fast 9000\n")
    assert processor(tmp_path / "cpuinfo").startswith("Fast 9000 (")
    assert processor(tmp_path / "missing").endswith(")")
