"""The link between an edge and its server, which encodes sent messages and counts and decodes received ones.

It uses the `Link` of training: taps see every body, and bytes are counted where they arrive. The `Encoding` of a
message determines how its tensor is written; the codecs of training are not part of the wire format.
"""

from __future__ import annotations

from dataclasses import replace

from raysplit.cluster.contract import LinkTraffic
from raysplit.cluster.guarded_link import make_link
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.rules import PLAIN, LinkRules
from raysplit.serving.codec import Content, Limits, Message, decode, encode
from raysplit.serving.compression import Encoding

EDGE, SERVER = "edge", "server"
KINDS: dict[Content, Kind] = {Content.FEATURES: "smashed", Content.LOGITS: "other", Content.IMAGES: "other"}


class WireLink:
    """One end of the link between an edge and its server.

    Args:
        rules: taps on the link.

    Raises:
        ValueError: if the rules have codecs.
    """

    def __init__(self, rules: LinkRules = PLAIN) -> None:
        if not rules.is_plain:
            kinds = dict.fromkeys(kind for kind, _ in rules.all_codecs)
            raise ValueError(
                f"serving does not support codecs, got one for {', '.join(kinds)}; give the edge client an "
                f"encoding instead"
            )
        self._link = make_link(rules)

    def leaving(self, source: str, destination: str, message: Message, encoding: Encoding = Encoding.FLOAT32) -> bytes:
        """Return the body for a message; raise ``ValueError`` as `encode` does."""
        tensor = self._link.leaving(source, destination, message.tensor, KINDS[message.content])
        return encode(replace(message, tensor=tensor), encoding)

    def arriving(self, source: str, destination: str, body: bytes, limits: Limits) -> Message:
        """Count a received body and return its message; raise `WireError` as `decode` does."""
        self._link.arriving(source, destination, body, len(body))
        return decode(body, limits)

    def traffic(self) -> list[LinkTraffic]:
        """Return the traffic that has arrived at this end."""
        return self._link.traffic()
