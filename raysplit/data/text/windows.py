"""A text as a data set: windows of tokens, and for each token the one that follows.

The end of each document is its test side, and a document belongs to one owner, so that no owner tests on what it or
another one has trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from raysplit.data.inputs import UNNAMED
from raysplit.data.labels import NO_LABEL
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sequences.masking import with_hidden_if_asked
from raysplit.data.sequences.ragged import Ragged, offsets_of
from raysplit.data.sequences.tokens import next_tokens, stored_ids
from raysplit.data.text.documents import Document, documents_of
from raysplit.data.text.encoding import encoder
from raysplit.data.transforms import KeepIds
from raysplit.options import Count

Ids = npt.NDArray[np.int64]
Tail = Literal["drop", "keep"]


def load_text(
    place: str,
    root: Path,
    *,
    tokens: str = "bytes",
    alphabet: str | None = None,
    length: Annotated[int, Field(ge=2)] = 64,
    tail: Tail = "drop",
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    owners: Count | None = None,
    masked: Annotated[float, Field(gt=0, lt=1)] | None = None,
    mask_token: Annotated[int, Field(ge=0)] | None = None,
) -> DataSet:
    """Load a text as windows of tokens, each with the tokens that follow, or with those that are hidden.

    Args:
        place: the documents, see `raysplit.data.text.documents.documents_of`.
        root: folder of relative paths.
        tokens: ``bytes``, ``characters``, or the path of a ``.json`` file of the tokenizers library.
        alphabet: all characters that may occur, for ``characters``.
        length: tokens in a window.
        tail: what becomes of the tokens behind the last whole window: ``drop`` leaves them out, ``keep`` makes a
            shorter window of them.
        test_fraction: share of each document, at its end, that is its test side.
        owners: number of owners, among whom documents are dealt out: the longest first, each to the owner with the
            fewest tokens so far. None makes each document an owner.
        masked: share of the tokens that are hidden and learned, instead of those that follow.
        mask_token: token that hides; None takes a new one behind the vocabulary.

    Raises:
        ValueError: for missing or empty documents, text that the tokens do not have, and documents that are too short
            for a window.
    """
    documents = documents_of(place, root)
    encode = encoder(tokens, alphabet=alphabet, root=root)
    ids = [encode.encode(document) for document in documents]
    if none := [document.name for document, own in zip(documents, ids, strict=True) if not len(own)]:
        raise ValueError(f"{none[0]} has no token; leave it out")
    named = _owners(documents, ids, owners)
    heads = [own[: len(own) - round(test_fraction * len(own))] for own in ids]
    tails = [own[len(head) :] for own, head in zip(ids, heads, strict=True)]
    sides = []
    for side, pieces in (("training", heads), ("test", tails)):
        samples, owner, left = _windows(pieces, named, length, tail, encode.vocabulary)
        if samples is None:
            raise ValueError(
                f"no document has {length} tokens on its {side} side (the longest has {max(map(len, pieces))}), so "
                f"there is no window; set a smaller data.length, data.tail: keep or another data.test_fraction"
            )
        sides.append((samples, owner, left))
    (train, train_owner, left), (test, test_owner, test_left) = sides
    total = sum(map(len, ids))
    behind = "" if tail == "keep" else f"; {left + test_left:,} tokens behind the last whole window left out"
    data = DataSet(
        train=train,
        test=test,
        num_classes=encode.vocabulary,
        transform=KeepIds(),
        eval_transform=KeepIds(),
        natural_owner=train_owner,
        test_owner=test_owner,
        sizes={"vocab_size": encode.vocabulary},
        done=(
            f"x: {len(documents):,} documents of {total:,} tokens ({encode.done}), windows of {length}; the last "
            f"{test_fraction:.3g} of each document is its test side{behind}",
            f"y: the token that follows each token, {NO_LABEL} after the last of a window",
        ),
    )
    return with_hidden_if_asked(data, UNNAMED, masked, mask_token)


def _windows(
    pieces: Sequence[Ids], owners: Sequence[str], length: int, tail: Tail, vocabulary: int
) -> tuple[Samples | None, npt.NDArray[np.str_], int]:
    """Return the windows of a side, the owner of each, and the number of tokens that no window has."""
    shortest = 2 if tail == "keep" else length  # a window of one token has nothing that follows
    lengths: list[int] = []
    kept: list[Ids] = []
    owner: list[str] = []
    for piece, name in zip(pieces, owners, strict=True):
        whole, rest = divmod(len(piece), length)
        own = [length] * whole + ([rest] if tail == "keep" and rest >= shortest else [])
        kept.append(piece[: sum(own)])
        lengths += own
        owner += [name] * len(own)
    left = sum(map(len, pieces)) - sum(lengths)
    if not lengths:
        return None, np.array([], str), left
    flat = stored_ids(np.concatenate(kept), "text", name="x", vocabulary=vocabulary)
    if tail == "drop":
        x = flat.view(len(lengths), length)
        return Samples(x=x, y=next_tokens(x)), np.array(owner), left
    ragged = Ragged(offsets=offsets_of(torch.tensor(lengths)))
    targets = Ragged(offsets=ragged.offsets, pad=NO_LABEL)
    y = next_tokens(flat, ragged)
    return Samples(x=flat, y=y, ragged={"x": ragged, "y": targets}), np.array(owner), left


def _owners(documents: Sequence[Document], ids: Sequence[Ids], num_owners: int | None) -> list[str]:
    """Return the owner of each document: itself, or one of several to which the documents are dealt out."""
    if num_owners is None:
        return [document.name for document in documents]
    if num_owners > len(documents):
        raise ValueError(
            f"data.owners is {num_owners} and there are {len(documents)} documents; give at most {len(documents)}"
        )
    digits = len(str(num_owners - 1))
    held = [0] * num_owners
    found = [""] * len(documents)
    for index in sorted(range(len(documents)), key=lambda i: (-len(ids[i]), documents[i].name)):
        owner = min(range(num_owners), key=lambda number: (held[number], number))
        held[owner] += len(ids[index])
        found[index] = f"{owner:0{digits}d}"
    return found
