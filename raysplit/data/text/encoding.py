"""Text as whole numbers: its bytes, its characters by a declared alphabet, or the tokens of a tokenizer file.

Nothing is fitted here: what a token means is known before any owner's text is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raysplit.data.failures import reading
from raysplit.data.text.documents import Document

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A map from documents to tokens.

    Attributes:
        encode: returns the tokens of a document, int64; raises ``ValueError`` with file and byte for what it cannot.
        vocabulary: number of tokens.
        done: what it does, in words.
    """

    encode: Callable[[Document], Ids]
    vocabulary: int
    done: str


def encoder(tokens: str, *, alphabet: str | None, root: Path) -> Encoder:
    """Return the encoder of a setting.

    Args:
        tokens: ``bytes``, ``characters``, or the path of a ``.json`` file of the tokenizers library.
        alphabet: all characters, for ``characters``.
        root: folder of relative paths.

    Raises:
        ValueError: for another setting, a missing or strange alphabet, and a file that is missing or broken.
    """
    if (alphabet is not None) != (tokens == "characters"):
        way = "leave data.alphabet out" if alphabet else "set data.alphabet to all characters that may occur"
        raise ValueError(f"data.tokens is {tokens} and data.alphabet is {_clipped(alphabet)}; {way}")
    if tokens == "bytes":
        return Encoder(encode=_bytes, vocabulary=256, done="bytes")
    if tokens == "characters":
        return _characters(alphabet or "")
    if tokens.endswith(".json"):
        return _of_file(root / tokens)
    raise ValueError(
        f"data.tokens is {tokens!r}; give bytes, characters, or the path of a tokenizer file that ends with .json"
    )


def _clipped(alphabet: str | None) -> str:
    return "missing" if alphabet is None else f"{alphabet[:20]!r}"


def _bytes(document: Document) -> Ids:
    return np.frombuffer(document.content, np.uint8).astype(np.int64)


def _text(document: Document) -> str:
    try:
        return document.content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{document.name}: byte {error.start} is not UTF-8; write the file as UTF-8, or set data.tokens: bytes"
        ) from error


def _characters(alphabet: str) -> Encoder:
    points = np.array([ord(character) for character in alphabet])
    order = np.argsort(points)
    ranked = points[order]
    if twice := [character for character in alphabet if alphabet.count(character) > 1]:
        raise ValueError(f"data.alphabet has {twice[0]!r} twice; give each character once")
    if not alphabet:
        raise ValueError("data.alphabet is empty; give all characters that may occur")

    def encode(document: Document) -> Ids:
        text = _text(document)
        found = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64)
        at = np.minimum(np.searchsorted(ranked, found), len(ranked) - 1)
        if (strange := ranked[at] != found).any():
            first = int(strange.argmax())
            raise ValueError(
                f"{document.name}: the character {text[first]!r} at byte {len(text[:first].encode())} is not in "
                f"data.alphabet; add it, or set data.tokens: bytes"
            )
        ids: Ids = order[at].astype(np.int64)
        return ids

    return Encoder(encode=encode, vocabulary=len(alphabet), done=f"characters of an alphabet of {len(alphabet)}")


def _of_file(path: Path) -> Encoder:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ValueError(
            f"data.tokens is {path}, which the tokenizers library reads, and it is not installed; run "
            f"pip install 'raysplit[hf]', or set data.tokens: bytes"
        ) from error
    if not path.is_file():
        raise ValueError(f"there is no tokenizer file {path}; give the path of a .json file of the tokenizers library")
    with reading(path, "save it again with Tokenizer.save"):
        tokenizer: Any = Tokenizer.from_file(str(path))

    def encode(document: Document) -> Ids:
        return np.array(tokenizer.encode(_text(document), add_special_tokens=False).ids, np.int64)

    size = int(tokenizer.get_vocab_size())
    return Encoder(encode=encode, vocabulary=size, done=f"tokens of {path.name}, {size:,} in all")
