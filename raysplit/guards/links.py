"""What the guards of a run add to the rules of its links."""

from __future__ import annotations

from dataclasses import replace

from raysplit.cluster.codecs.codec import Codec
from raysplit.cluster.codecs.lossless import Chain
from raysplit.cluster.codecs.subspace import Subspace
from raysplit.cluster.links.rules import LinkRules
from raysplit.guards.rules import PrivacyRules


def guarded_rules(rules: LinkRules, privacy: PrivacyRules) -> LinkRules:
    """Return the rules of links with guards: owners are asked, and a projection goes before other codecs."""
    if privacy.project is None:
        return replace(rules, guarded=True)
    first = Subspace(size_of=privacy.project)
    codecs = dict(rules.codecs)
    for kind in ("smashed", "gradients"):
        after = codecs.get(kind)
        codecs[kind] = first if after is None else Chain([first, *_links_of(after)])
    return replace(rules, codecs=codecs, guarded=True)


def _links_of(codec: Codec) -> list[Codec]:
    return list(codec.codecs) if isinstance(codec, Chain) else [codec]
