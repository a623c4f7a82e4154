"""Who sees what of an owner in a run: the cuts of its model, and the parties on the other side of each."""

from __future__ import annotations

from dataclasses import dataclass

from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.sent_inputs import recipes_of
from raysplit.cluster.contract import PartySpec

Cut = int | str


@dataclass(frozen=True, kw_only=True)
class View:
    """What crosses one cut of an owner's model.

    Attributes:
        cut: the cut.
        number: its number in the model, from 0.
        observer: the party that receives the smashed data; several where replicas are shared out.
        maker: the party that sends them, whose codec they cross with.
        is_last: whether the owner holds what is behind the cut, and sends the gradient there itself.
    """

    cut: Cut
    number: int
    observer: str
    maker: str
    is_last: bool = False


@dataclass(frozen=True, kw_only=True)
class Sight:
    """All that others see of an owner.

    Attributes:
        views: one for each cut of its model; none where it holds the whole model.
        keeps_labels: whether its labels stay with it.
        knows_part: who also has the owner's present weights: the aggregator, the next owner, or, where nobody is sent
            them, the coordinator by its checkpoints.
    """

    views: tuple[View, ...]
    keeps_labels: bool
    knows_part: str

    def view(self, cut: Cut) -> View:
        """Return the view at a cut."""
        return next(view for view in self.views if view.cut == cut)


def sight_of(algorithm: Algorithm, owner: str) -> Sight:
    """Return what others see of an owner; ``algorithm`` is bound to the setting of a run."""
    parties = algorithm.parties()
    own = next(party for party in parties if party.name == owner)
    recipes = list(recipes_of(own))
    cuts, held = recipes[0].cuts, {recipe.index for recipe in recipes}
    holders = {index: _holders(parties, cuts, index) for index in range(1, len(cuts) + 1) if index not in held}
    views = []
    for number, cut in enumerate(_distinct(algorithm, cuts)):
        behind = number + 1
        is_last = behind in held
        views.append(
            View(
                cut=cut,
                number=number,
                observer=holders.get(number, owner) if is_last else holders[behind],
                maker=owner if number == 0 else holders.get(number, owner),
                is_last=is_last,
            )
        )
    aggregates = any(party.role == "aggregator" for party in parties)
    knows = "aggregator" if aggregates else "next owner" if algorithm.name == "splitnn" else "coordinator"
    return Sight(views=tuple(views), keeps_labels=not cuts or max(held) == len(cuts), knows_part=knows)


def _distinct(algorithm: Algorithm, cuts: tuple[Cut, ...]) -> tuple[Cut, ...]:
    """Return the cuts at which other values cross: the heads of a multi-task classifier all take the same."""
    return cuts[:1] if algorithm.name == "mtl_split" else cuts


def _holders(parties: list[PartySpec], cuts: tuple[Cut, ...], index: int) -> str:
    names = [
        party.name
        for party in parties
        if party.role == "node" and any(r.cuts == cuts and r.index == index for r in recipes_of(party))
    ]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more" if names else "server"
