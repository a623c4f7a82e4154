"""The codec of docs/links.md as it stands there: trained with, resumed from its import path, simulated by its size."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from support import same, train

from raysplit.cluster.links.coding import coded_bytes
from raysplit.config.run import check_config

PAGE = (Path(__file__).parents[4] / "docs" / "links.md").read_text(encoding="utf-8")


@pytest.fixture
def codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its import path."""
    (block,) = re.findall(r"```python\n# mycodec\.py\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "mycodec.py").write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "mycodec:Signs"


def test_the_codec_of_the_page(codec: str) -> None:
    links = {"gradients": codec}
    result = train(links=links, algorithm={"name": "splitfed_v1", "cut": 1})
    assert same(result, train(links=links, algorithm={"name": "splitfed_v1", "cut": 1}))
    assert not same(result, train(algorithm={"name": "splitfed_v1", "cut": 1}))
    found = {(t.source, t.destination): t.num_bytes for t in result.links}
    assert found["server", "owner-0"] == 2 * 5 * (16 + 4 + 16 * 16 / 8)  # rounds, steps; header, magnitude, bits
    (signs,) = check_config({"links": links}).links.link_rules().codecs.values()
    assert coded_bytes(signs, (16, 16), torch.float32) == 52
    with pytest.raises(ValueError, match=r"links.smashed: .*Signs is a codec for gradients, not for smashed"):
        check_config({"links": {"smashed": codec}})
