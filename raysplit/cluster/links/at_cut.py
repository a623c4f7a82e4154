"""A codec inside of a model, at the place of a cut, as evaluation and profiles need it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from raysplit.cluster.codecs.codec import Codec, Memory, Passage
from raysplit.cluster.links.coding import coded, decoded


@dataclass(frozen=True, kw_only=True)
class CodecAtCut:
    """A codec at a cut of an evaluated model; a random one has its plain form.

    Attributes:
        codec: the codec of smashed data.
        seed: seed of the run, for the operators of codecs.
    """

    codec: Codec
    seed: int = 0

    @property
    def mixes_rows(self) -> bool:
        """Whether the decoded rows of a batch depend on one another."""
        return self.codec.in_evaluation().mixes_rows

    def __call__(self, z: Tensor, number: int) -> Tensor:
        codec = self.codec.in_evaluation()
        at = Passage("evaluation", "", "smashed", None, "", number, self.seed, Memory())
        sent = coded(codec, z, at)
        return z if sent is None else decoded(codec, sent, at).to(z.device)
