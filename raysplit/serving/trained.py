"""The encoding of features with which a model was trained, where the wire format has it."""

from __future__ import annotations

from pathlib import Path

from raysplit.cluster.codecs import codec_named
from raysplit.cluster.codecs.affine import Int8
from raysplit.cluster.codecs.casts import Float16
from raysplit.experiment.links import LinkOptions
from raysplit.plain_yaml import read
from raysplit.runs.records.damaged import text_of
from raysplit.runs.records.files import CONFIG
from raysplit.serving.codec import VERSION
from raysplit.serving.compression import Encoding


def trained_encoding(run: Path) -> Encoding:
    """Return the encoding that corresponds to the codec of smashed data in a run folder.

    float16 gives the values of training but for those below 6e-5, because the wire has no scale for it; int8 gives the
    very bits.

    Raises:
        ValueError: the run has no configuration or a damaged one, or a codec that this version of the wire format does
            not have.
    """
    try:
        settings = read(text_of(run / CONFIG), str(run / CONFIG))
    except FileNotFoundError:
        raise ValueError(f"{run} has no {CONFIG}, so its codec is not known; give --encoding by name") from None
    section = settings.get("links") if isinstance(settings, dict) else None
    links = LinkOptions.model_validate(section or {})
    if single := next((rule for rule in links.rules if rule.kind == "smashed"), None):
        raise ValueError(
            f"{run} was trained with links.rules that give single parties a codec of smashed data (from: "
            f"{single.source}), so which is meant is not known; give --encoding by name"
        )
    text = links.smashed
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
