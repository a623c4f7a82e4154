"""Codecs, a family in each file: what makes tensors smaller on a link. `CODECS` has them by their names in YAML.

A codec of one's own is a subclass of `raysplit.cluster.codecs.codec.Codec`, named ``package.module:Class``.
"""

from __future__ import annotations

from collections.abc import Mapping

from raysplit.cluster.codecs.casts import Float16
from raysplit.cluster.codecs.codec import Codec
from raysplit.registry import imported_class, known

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
        return imported_class("codec", name, Codec)()  # type: ignore[type-abstract]
    if name not in CODECS:
        known("codec", name, [IDENTITY, *CODECS])
    return CODECS[name]()
