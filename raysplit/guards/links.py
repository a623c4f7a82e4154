"""What the guards of a run add to the rules of its links."""

from __future__ import annotations

from dataclasses import replace

from raysplit.cluster.codecs.codec import Codec
from raysplit.cluster.codecs.linear import Subspace
from raysplit.cluster.codecs.lossless import Chain
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.rules import LinkRules
from raysplit.guards.rules import PrivacyRules

_PROJECTED: tuple[Kind, ...] = ("smashed", "gradients")


def guarded_rules(rules: LinkRules, privacy: PrivacyRules) -> LinkRules:
    """Return the rules of links with guards: owners are asked, and a projection goes before other codecs."""
    if privacy.project is None:
        return replace(rules, guarded=True)
    first = Subspace(size_of=privacy.project)
    codecs = {**rules.codecs, **{kind: _after(first, rules.codecs.get(kind)) for kind in _PROJECTED}}
    singles = tuple(
        replace(rule, codec=_after(first, rule.codec)) if rule.kind in _PROJECTED else rule for rule in rules.singles
    )
    return replace(rules, codecs=codecs, singles=singles, guarded=True)


def _after(first: Codec, codec: Codec | None) -> Codec:
    return first if codec is None else Chain([first, *_links_of(codec)])


def _links_of(codec: Codec) -> list[Codec]:
    return list(codec.codecs) if isinstance(codec, Chain) else [codec]
