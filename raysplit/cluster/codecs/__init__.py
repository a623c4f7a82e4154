"""Codecs, a family in each file: what makes tensors smaller on a link. `CODECS` has them by their names in YAML.

A codec of one's own is a subclass of `raysplit.cluster.codecs.codec.Codec`, named ``package.module:Class``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from raysplit.cluster.codecs.casts import Float16
from raysplit.cluster.codecs.codec import Codec
from raysplit.registry import imported

IDENTITY = "identity"
"""The codec that is none: values go as they are."""

CODECS: Mapping[str, type[Codec]] = {"float16": Float16}


def codec_named(name: str) -> Codec | None:
    """The codec of this name or import path; None for ``identity``.

    Raises ``ValueError`` for an unknown name, with the nearest one, and for an import path that names no `Codec`.
    """
    if name == IDENTITY:
        return None
    if ":" in name:
        found: Any = imported(name)
        if not (isinstance(found, type) and issubclass(found, Codec)):
            raise ValueError(f"{name!r} is {found!r}; a codec is a subclass of raysplit.cluster.codecs.codec.Codec")
        return found()
    if name not in CODECS:
        names = [IDENTITY, *CODECS]
        near = difflib.get_close_matches(name, names, 1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown codec {name!r}{hint} (one of {', '.join([*names, 'package.module:name'])})")
    return CODECS[name]()
