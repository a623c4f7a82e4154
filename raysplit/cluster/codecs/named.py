"""Codecs as they are written in YAML: a name, a name with options, or a list of codecs that follow one another."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from raysplit.cluster.codecs.adaptive import Adaptive
from raysplit.cluster.codecs.affine import Affine, Int2, Int4, Int8
from raysplit.cluster.codecs.casts import BFloat16, Float8, Float16
from raysplit.cluster.codecs.codec import Codec
from raysplit.cluster.codecs.linear import C3, Project
from raysplit.cluster.codecs.lossless import Chain, Zstd
from raysplit.cluster.codecs.memory import Delta, Remembered, Skip
from raysplit.cluster.codecs.product import ProductQuantization
from raysplit.cluster.codecs.sparse import Bitmap, RandTopK, TopK
from raysplit.cluster.codecs.weights import STC, Feedback, PowerSGD
from raysplit.cluster.links.kinds import Kind
from raysplit.registry import imported_class, known, unknown

IDENTITY = "identity"
"""The name under which values are sent unchanged."""
ADAPTIVE = "adaptive"
"""The option ``bits`` of int8, int4 and int2, with which these are the mean over the channels."""

CODECS: Mapping[str, type[Codec]] = {
    "float16": Float16,
    "bfloat16": BFloat16,
    "float8": Float8,
    "int8": Int8,
    "int4": Int4,
    "int2": Int2,
    "top_k": TopK,
    "rand_top_k": RandTopK,
    "bitmap": Bitmap,
    "c3": C3,
    "project": Project,
    "product_quantization": ProductQuantization,
    "power_sgd": PowerSGD,
    "stc": STC,
    "delta": Delta,
    "skip": Skip,
    "zstd": Zstd,
}
"""The codecs by their names in YAML."""

_BITS: Mapping[type[Codec], int] = {Int8: 8, Int4: 4, Int2: 2}
_NOT_OF_CHANGES = (Delta, Remembered, Skip, C3, ProductQuantization)
"""Codecs that cannot follow delta: they need whole batches, or their error is larger than the change, so it grows."""

CodecText = str | Mapping[str, Any] | Sequence[Any]
"""A codec as plain data: ``int8``, ``{codec: int4, by: tile}`` or ``[int4, zstd]``."""


def codec_named(text: CodecText) -> Codec | None:
    """Return the codec that plain data describe, or None for ``"identity"``.

    Raises:
        ValueError: for an unknown name or option (with the closest one), a value that an option cannot have, codecs
            that do not fit one another, or an import path that does not name a `Codec`.
    """
    if isinstance(text, str | Mapping):
        codec = _part(text)
        return None if codec is None else _joined([codec])
    if not isinstance(text, Sequence) or not text:
        raise ValueError(f"a codec is a name, {{codec: name, ...}} or a list of these, got {text!r}")
    codecs = [_part(each) for each in text]
    if None in codecs and len(codecs) > 1:
        raise ValueError(f"{IDENTITY} does nothing in a chain; leave it out of {list(text)}")
    return _joined([codec for codec in codecs if codec is not None])


def _part(text: CodecText) -> Codec | None:
    """Return one codec of a chain."""
    if isinstance(text, str):
        return _made(text, {})
    if not isinstance(text, Mapping):
        return codec_named(text)
    options = {str(key): value for key, value in text.items() if key not in ("codec", "feedback")}
    if not isinstance(name := text.get("codec"), str):
        raise ValueError(f"a codec with options needs its name, as in {{codec: int4, by: tile}}; got {dict(text)}")
    return _made(name, options)


def codec_for(kind: Kind, text: CodecText) -> Codec | None:
    """Return the codec for a kind of value, with error feedback where weights need it or ask for it.

    Raises:
        ValueError: as `codec_named`, and for a codec or feedback that the kind cannot have.
    """
    codec = codec_named(text)
    wanted = _feedback(text)
    if codec is None:
        if wanted:
            raise ValueError(f"feedback has nothing to add to {IDENTITY}; leave it out")
        return None
    codec = codec.for_kind(kind)
    if wanted and kind != "weights":
        raise ValueError(
            f"feedback is for weights: the next batch of {kind} has other samples, and what was left out of this one "
            f"would be noise; leave it out"
        )
    if wanted and not codec.lossy:
        raise ValueError(f"{codec!r} leaves nothing out that feedback could add; leave feedback out")
    on = wanted if wanted is not None else codec.needs_reference or _few_bits(codec)
    return Feedback(codec) if kind == "weights" and on else codec


def _feedback(text: CodecText) -> bool | None:
    parts = [text] if isinstance(text, str | Mapping) else text
    found = [part["feedback"] for part in parts if isinstance(part, Mapping) and "feedback" in part]
    for value in found:
        if not isinstance(value, bool):
            raise ValueError(f"feedback is true or false, got {value!r}")
    return found[-1] if found else None


def _few_bits(codec: Codec) -> bool:
    parts = codec.codecs if isinstance(codec, Chain) else (codec,)
    return any(isinstance(part, Affine) and part.bits < 8 for part in parts)


def _joined(codecs: Sequence[Codec]) -> Codec | None:
    if not codecs:
        return None
    if isinstance(codecs[0], Delta):
        rest = _joined(codecs[1:])
        if rest is None:
            raise ValueError("delta needs a codec for the changes; give a chain such as [delta, int4]")
        parts = rest.codecs if isinstance(rest, Chain) else (rest,)
        if rest.needs_reference or not rest.lossy or any(isinstance(part, _NOT_OF_CHANGES) for part in parts):
            raise ValueError(f"delta cannot be followed by {rest!r}; follow it by int8, int4, int2 or a cast")
        return Remembered(rest)
    return codecs[0] if len(codecs) == 1 else Chain(codecs)


def _made(name: str, options: Mapping[str, Any]) -> Codec | None:
    if name == IDENTITY:
        if options:
            raise ValueError(f"{IDENTITY} has no options, got {', '.join(options)}")
        return None
    if name == "none":
        raise ValueError(f"a codec that changes nothing is called {IDENTITY}, got 'none'; write {IDENTITY}")
    if ":" in name:
        kind: type[Codec] = imported_class("codec", name, Codec)  # type: ignore[type-abstract]
    else:
        if name not in CODECS:
            known("codec", name, [IDENTITY, *CODECS])
        kind = CODECS[name]
    taken = inspect.signature(kind).parameters
    if kind in _BITS and "bits" in options:
        return _adaptive(name, _BITS[kind], options)
    for option in options:
        if option == "gradient" and option not in taken:
            raise ValueError(_why_no_chain_rule(name, kind))
        if option not in taken and not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
            if not taken:
                raise ValueError(f"codec {name} has no options, got {option!r}")
            raise ValueError(unknown(f"option of {name}", option, taken))
    return _built(name, kind, options)


def _adaptive(name: str, mean: int, options: Mapping[str, Any]) -> Codec:
    """Return the codec that gives every channel its own number of bits."""
    if options["bits"] != ADAPTIVE:
        raise ValueError(
            f"{name} has {mean} bits, got bits: {options['bits']!r}; take int8, int4 or int2, or bits: {ADAPTIVE} with "
            f"a mean of {mean} over the channels"
        )
    for option, value in options.items():
        if (option, value) not in (("bits", ADAPTIVE), ("by", "channel")):
            raise ValueError(
                f"bits: {ADAPTIVE} gives each channel its own bits and rounds to nearest, got {option}: {value!r}; "
                f"leave {option} out"
            )
    return _built(name, Adaptive, {"mean": mean})


def _built(name: str, kind: type[Codec], options: Mapping[str, Any]) -> Codec:
    try:
        return kind(**options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{name}.{where}: {first['msg']}, got {first['input']!r}") from None
    except TypeError as error:
        raise ValueError(f"codec {name}: {error}") from None


def _why_no_chain_rule(name: str, kind: type[Codec]) -> str:
    """Return the error text for ``gradient`` beside a codec that cannot have it."""
    if issubclass(kind, C3 | Project):
        return (
            f"gradient: through is for top_k; with {name} for links.gradients too, the gradient is that of the chain "
            f"rule, because encoding is the adjoint of decoding; leave gradient out and set links.gradients"
        )
    if not kind.lossy:
        return f"gradient: through is for top_k; {name} changes no value, so the chain rule holds; leave gradient out"
    return (
        f"gradient: through is for top_k; {name} rounds, and the derivative of that is 0 everywhere, so the gradient "
        f"of what arrived is taken for that of what was sent; leave gradient out"
    )
