"""The encoding of features with which a model was trained, where the wire format has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from raysplit.cluster.codecs import codec_named
from raysplit.cluster.codecs.affine import Int8
from raysplit.cluster.codecs.casts import Float16
from raysplit.experiment.links import LinkOptions
from raysplit.serving.codec import VERSION
from raysplit.serving.compression import Encoding


def trained_encoding(run: Path) -> Encoding:
    """Return the encoding that corresponds to the codec of smashed data in a run folder.

    float16 gives the values of training but for those below 6e-5, because the wire has no scale for it; int8 gives the
    very bits.

    Raises:
        ValueError: the run has no configuration, or a codec that this version of the wire format does not have.
    """
    path = run / "config.yaml"
    if not path.exists():
        raise ValueError(f"{run} has no config.yaml, so its codec is not known; give --encoding by name")
    section: dict[str, Any] = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("links") or {}
    text = LinkOptions.model_validate(section).smashed
    codec = codec_named(text)
    if codec is None or not codec.lossy:
        return Encoding.FLOAT32
    if codec == Int8(by="tensor"):
        return Encoding.INT8
    if isinstance(codec, Float16):
        return Encoding.FLOAT16
    way_out = "train with {codec: int8, by: tensor} or float16, or give --encoding by name"
    lacking = f"which version {VERSION} of the wire format does not have"
    raise ValueError(f"{run} was trained with links.smashed: {text}, {lacking}; {way_out}")
