"""The link between an edge and its server: what leaves becomes a message on the wire, what arrives is counted and read.

The same `Link` as in training: whoever watches it sees every body, and bytes are counted where they arrive. How a
tensor is written is said by the `Encoding` of the message, which the wire format knows; codecs of training are not part
of that format.
"""

from __future__ import annotations

from dataclasses import replace

from raysplit.cluster.contract import LinkTraffic
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.link import PLAIN, LinkRules, make_link
from raysplit.serving.codec import Content, Limits, Message, decode, encode
from raysplit.serving.compression import Encoding

EDGE, SERVER = "edge", "server"
KINDS: dict[Content, Kind] = {Content.FEATURES: "smashed", Content.LOGITS: "other", Content.IMAGES: "other"}


class WireLink:
    """One end of the link between an edge and its server.

    Args:
        rules: what works on this link. Raises ``ValueError`` for codecs.
    """

    def __init__(self, rules: LinkRules = PLAIN) -> None:
        if rules.codecs:
            raise ValueError(
                f"the wire format of serving has encodings of its own, and the link has codecs for "
                f"{', '.join(rules.codecs)}; give the edge an encoding instead"
            )
        self._link = make_link(rules)

    def leaving(self, source: str, destination: str, message: Message, encoding: Encoding = Encoding.FLOAT32) -> bytes:
        """The body that crosses. Raises ``ValueError`` as `encode` does."""
        tensor = self._link.leaving(source, destination, message.tensor, KINDS[message.content])
        return encode(replace(message, tensor=tensor), encoding)

    def arriving(self, source: str, destination: str, body: bytes, limits: Limits) -> Message:
        """The message in a body that came. Raises `WireError` as `decode` does."""
        self._link.arriving(source, destination, body, len(body))
        return decode(body, limits)

    def traffic(self) -> list[LinkTraffic]:
        """What has arrived at this end."""
        return self._link.traffic()
