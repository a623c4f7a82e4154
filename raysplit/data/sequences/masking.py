"""Masked language modeling: a share of the tokens is hidden, and the model learns to tell them.

Devlin et al., "BERT" (2019, arXiv 1810.04805): of the chosen tokens, 80 % become the mask token, 10 % a random one, and
10 % stay. Training batches are hidden anew, from the stream of the owner's step; test samples once, each by a stream of
its own tokens, so that figures do not depend on batches, owners or places.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from raysplit.data.inputs import UNNAMED, Values
from raysplit.data.labels import NO_LABEL
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sequences.masks import IDS, MASK
from raysplit.data.transforms import Transform
from raysplit.seeding import torch_generator

LEARNED = "learned_tokens"
"""Name in a transformed batch of the targets that the transform has made."""
AS_MASK, AS_RANDOM = 0.8, 0.9


@dataclass(frozen=True, kw_only=True)
class HideTokens:
    """A transform that hides tokens of the input ``name``, and adds the targets `LEARNED`.

    Attributes:
        inner: the transform before it.
        name: the input of tokens.
        share: probability of a token to be chosen.
        mask_token: what most of the chosen tokens become.
        vocabulary: number of tokens, of which random ones are drawn.
    """

    draws: ClassVar[bool] = True

    inner: Transform
    name: str
    share: float
    mask_token: int
    vocabulary: int

    def __call__(self, x: Any, gen: torch.Generator) -> Values:
        made = self.inner(x, gen)
        named = {UNNAMED: made} if isinstance(made, Tensor) else dict(made)
        ids = named[self.name]
        valid = named[MASK].bool() if MASK in named else torch.ones_like(ids, dtype=torch.bool)
        hidden, targets = hide(ids, valid, self.share, self.mask_token, self.vocabulary, gen)
        return {**named, self.name: hidden, LEARNED: targets}


def hide(
    ids: Tensor, valid: Tensor, share: float, mask_token: int, vocabulary: int, gen: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return tokens of which a share is hidden, and the targets: those tokens, and `NO_LABEL` for all others."""
    chosen = (torch.rand(ids.shape, generator=gen) < share) & valid
    kind = torch.rand(ids.shape, generator=gen)
    others = torch.randint(vocabulary, ids.shape, generator=gen)
    hidden = torch.where(chosen & (kind < AS_MASK), mask_token, ids)
    hidden = torch.where(chosen & (kind >= AS_MASK) & (kind < AS_RANDOM), others.to(ids.dtype), hidden)
    return hidden, torch.where(chosen, ids, NO_LABEL).long()


def makes_targets(transform: Transform) -> bool:
    """Whether a transform makes the targets of a batch."""
    return isinstance(transform, HideTokens)


def learned(batch: Values, y: Any) -> Any:
    """Return the targets of a transformed batch: those that its transform has made, or else those of the samples."""
    return batch.get(LEARNED, y) if not isinstance(batch, Tensor) else y


def tokens_of(data: DataSet) -> str:
    """Return the name of the input of tokens: one that is usual for them, or else the first."""
    return next(name for name in (*IDS, *data.inputs) if name in data.inputs)


def with_hidden_if_asked(data: DataSet, name: str, masked: float | None, mask_token: int | None) -> DataSet:
    """Hide tokens by the settings ``data.masked`` and ``data.mask_token``."""
    refuse_idle(masked, mask_token)
    return data if masked is None else with_hidden(data, name, masked, mask_token)


def refuse_idle(masked: float | None, mask_token: int | None) -> None:
    """Raise ``ValueError`` for a token that hides where nothing is hidden."""
    if mask_token is not None and masked is None:
        raise ValueError(f"data.mask_token is {mask_token}, and data.masked is not set; set it to a share such as 0.15")


def with_hidden(data: DataSet, name: str, share: float, mask_token: int | None) -> DataSet:
    """Return a data set of tokens whose targets are the hidden ones of each batch.

    Args:
        data: the data set.
        name: its input of tokens.
        share: probability of a token to be hidden.
        mask_token: token that stands for hidden ones; None takes a new one behind the vocabulary.

    Raises:
        ValueError: for a mask token beyond the vocabulary, and samples of different lengths without a mask.
    """
    vocabulary = int(data.sizes["vocab_size"])
    token = vocabulary if mask_token is None else mask_token
    if token > vocabulary:
        raise ValueError(
            f"data.mask_token is {token}, and the data have the tokens 0..{vocabulary - 1}; give one of them, or "
            f"{vocabulary} for a new one"
        )
    if data.train.ragged and (isinstance(data.train.x, Tensor) or MASK not in data.train.x):
        raise ValueError(
            f"data.masked is {share:g}, and samples differ in length and have no {MASK}, so that padding would be "
            f"learned; leave data.mask: false out, or take samples of one length"
        )
    size = max(vocabulary, token + 1)
    sides = {
        side: _hidden(samples, name, share, token, vocabulary)
        for side, samples in (("test", data.test), ("val", data.val))
        if samples is not None
    }
    read = [line for line in data.done if not line.startswith("y:")]
    hiding = HideTokens(inner=data.transform, name=name, share=share, mask_token=token, vocabulary=vocabulary)
    return replace(
        data,
        train=_with_own_targets(data.train, name),
        test=sides["test"],
        val=sides.get("val"),
        transform=hiding,
        num_classes=size,
        sizes={**data.sizes, "vocab_size": size},
        done=(*read, f"y: the hidden tokens, {share:.3g} of all; {token} is the token that hides"),
    )


def _ids(samples: Samples, name: str) -> Tensor:
    return samples.x if isinstance(samples.x, Tensor) else samples.x[name]


def _with_own_targets(samples: Samples, name: str) -> Samples:
    """Return samples whose targets are their tokens, of which a batch counts the hidden ones."""
    return replace(samples, y=_ids(samples, name).long(), ragged=_ragged(samples, name))


def _ragged(samples: Samples, name: str) -> Any:
    rules = samples.ragged
    return {**rules, "y": replace(rules[name], pad=NO_LABEL)} if name in rules else rules


def _hidden(samples: Samples, name: str, share: float, token: int, vocabulary: int) -> Samples:
    """Hide tokens of samples once, each by a stream of its own tokens."""
    ids = _ids(samples, name).long()
    ends = samples.ragged[name].offsets[1:].tolist() if name in samples.ragged else None
    rows = list(torch.tensor_split(ids, ends[:-1])) if ends is not None else list(ids)
    made = []
    for row in rows:
        gen = torch_generator(0, "masked", row.numpy().tobytes().hex())
        made.append(hide(row, torch.ones_like(row, dtype=torch.bool), share, token, vocabulary, gen))
    join = torch.cat if ends is not None else torch.stack
    hidden, targets = (join([pair[side] for pair in made]) for side in range(2))
    x = hidden if isinstance(samples.x, Tensor) else {**samples.x, name: hidden}
    return replace(samples, x=x, y=targets, ragged=_ragged(samples, name))
