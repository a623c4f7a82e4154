"""Codecs, which encode tensors in fewer bytes while they cross a link.

* ``codec``: the interface `Codec`, the `Passage` that tells a codec where a tensor is on its way, and `Memory`.
* ``casts``, ``affine``, ``adaptive``: shorter floating types, integers of 8, 4 or 2 bits, or of bits by channel.
* ``sparse``: the largest values, and the values that are not zero.
* ``linear``, ``product``: sums of rows under keys, projections, subspaces, and codebooks.
* ``weights``: low rank and signs for differences of weights, and error feedback.
* ``memory``: changes of samples since their last visit.
* ``lossless``: Zstandard, and chains of codecs.
* ``packing``: numbers of a few bits in bytes.
* ``named``: codecs as they are written in YAML.

Others take `codec_named` and `codec_for` from here; `CODECS` lists the codecs by their names in YAML. To write a codec,
subclass `Codec` and name it ``package.module:Class``.
"""

from __future__ import annotations

from raysplit.cluster.codecs.named import CODECS as CODECS
from raysplit.cluster.codecs.named import IDENTITY as IDENTITY
from raysplit.cluster.codecs.named import codec_for as codec_for
from raysplit.cluster.codecs.named import codec_named as codec_named
