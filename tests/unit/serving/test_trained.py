"""The edge takes the codec that a model was trained with, where the wire format has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raysplit.serving.compression import Encoding
from raysplit.serving.trained import trained_encoding


@pytest.mark.parametrize(
    ("links", "encoding"),
    [
        ({}, Encoding.FLOAT32),
        ({"smashed": "identity"}, Encoding.FLOAT32),
        ({"smashed": ["bitmap", "zstd"]}, Encoding.FLOAT32),
        ({"smashed": {"codec": "int8", "by": "tensor"}}, Encoding.INT8),
        ({"smashed": "float16", "gradients": "int4"}, Encoding.FLOAT16),
    ],
)
def test_the_codec_of_a_run(links: dict[str, Any], encoding: Encoding, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"links": links} if links else {}))
    assert trained_encoding(tmp_path) is encoding


@pytest.mark.parametrize("codec", ["int4", "int8", ["int4", "zstd"], {"codec": "int8", "bits": "adaptive"}, "top_k"])
def test_a_codec_that_the_wire_does_not_have(codec: Any, tmp_path: Path) -> None:
    """int8 by row has a step for each picture, and a message one for all of its pictures."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"links": {"smashed": codec}}))
    with pytest.raises(ValueError, match=r"links.smashed: .*, which version 1 of the wire format does not have"):
        trained_encoding(tmp_path)


def test_codecs_of_single_parties(tmp_path: Path) -> None:
    """A run whose owners had int4 by a rule was served as one without codecs."""
    rule = {"from": "owner-*", "kind": "smashed", "codec": "int4"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"links": {"rules": [rule]}}))
    with pytest.raises(ValueError, match=r"links.rules .* \(from: owner-\*\), so which is meant is not known"):
        trained_encoding(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"links": {"rules": [{**rule, "kind": "gradients"}]}}))
    assert trained_encoding(tmp_path) is Encoding.FLOAT32


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config.yaml, so its codec is not known; give --encoding by name"):
        trained_encoding(tmp_path)


def test_a_damaged_configuration(tmp_path: Path) -> None:
    """An edge device had half of the file, and `raysplit edge --encoding trained` ended in a traceback of PyYAML."""
    (tmp_path / "config.yaml").write_text("links: {smashed: [int8")
    with pytest.raises(ValueError, match=r"config.yaml is not valid YAML: .*line 1"):
        trained_encoding(tmp_path)
