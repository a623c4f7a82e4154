"""Codecs, which encode tensors in fewer bytes while they cross a link.

* ``codec``: the interface `Codec`, and the `Passage` that tells a codec where a tensor is on its way.
* ``casts``: casts to shorter floating types.

Others take `codec_named` from here; `CODECS` lists the codecs by their names in YAML. To write a codec, subclass
`Codec` and name it ``package.module:Class``.
"""

from __future__ import annotations

from collections.abc import Mapping

from raysplit.cluster.codecs.casts import Float16
from raysplit.cluster.codecs.codec import Codec
from raysplit.registry import imported_class, known

IDENTITY = "identity"
"""The name under which values are sent unchanged."""

CODECS: Mapping[str, type[Codec]] = {"float16": Float16}


def codec_named(name: str) -> Codec | None:
    """Return the codec with a name or an import path, or None for ``"identity"``.

    Raises:
        ValueError: if the name is unknown (with the closest one), or the import path does not name a `Codec`.
    """
    if name == IDENTITY:
        return None
    if ":" in name:
        return imported_class("codec", name, Codec)()  # type: ignore[type-abstract]
    if name not in CODECS:
        known("codec", name, [IDENTITY, *CODECS])
    return CODECS[name]()
