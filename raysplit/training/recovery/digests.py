"""Digests of what a checkpoint holds: one of each field, and one of each party's state, which cover plain values too.

The sum of the file tells that its bytes are those that were written. These tell that its content is: whoever edits a
learning rate in a party's state, or gives two parties each other's states, and writes the file anew with a right sum,
is told which entry it is. They are no protection from somebody who computes them anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

DIGESTS = "digests"
"""The entry of a file that holds them."""
_MAX_SHOWN = 5


def digests_of(content: Mapping[str, Any]) -> dict[str, str]:
    """Compute the digests of the fields of a checkpoint, and of the parties' states, by name."""
    parties = content.get("parties")
    states = {f"parties.{name}": state for name, state in parties.items()} if isinstance(parties, Mapping) else {}
    fields = {name: value for name, value in content.items() if name not in (DIGESTS, *(["parties"] if states else []))}
    return {name: _digest(name, value) for name, value in (fields | states).items()}


def require_as_written(content: Any, *, may_lack_digests: bool) -> None:
    """Raise ``ValueError`` where the content of a checkpoint differs from its digests, naming the entries."""
    has_digests = isinstance(content, Mapping) and DIGESTS in content
    if may_lack_digests and not has_digests:
        return
    written = content[DIGESTS] if has_digests else None
    if not isinstance(written, Mapping):
        raise ValueError("it lacks the digests of its entries")
    now = digests_of(content)
    names = [str(name) for name in dict.fromkeys([*written, *now]) if written.get(name) != now.get(name)]
    if names:
        more = f" and {len(names) - _MAX_SHOWN} more entries" if len(names) > _MAX_SHOWN else ""
        raise ValueError(f"{', '.join(names[:_MAX_SHOWN])}{more} changed after it was written")


def _digest(name: str, value: Any) -> str:
    found = hashlib.sha256()
    _add(found, name)  # two parties cannot have each other's states
    _add(found, value)
    return found.hexdigest()


def _add(found: Any, value: Any) -> None:
    """Add a value to a digest: its type, its size and what it holds, in the order in which it holds it."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu()
        plain = (plain if plain.layout is torch.strided else plain.to_dense()).resolve_conj().resolve_neg()
        _add_bytes(
            found,
            f"tensor {value.dtype} {list(value.shape)}",
            plain.contiguous().reshape(-1).view(torch.uint8).numpy().data,
        )
    elif isinstance(value, Mapping):
        _add_bytes(found, f"mapping {len(value)}")
        for key, entry in value.items():
            _add(found, key)
            _add(found, entry)
    elif isinstance(value, list | tuple):
        _add_bytes(found, f"{'list' if isinstance(value, list) else 'tuple'} {len(value)}")
        for entry in value:
            _add(found, entry)
    elif isinstance(value, set | frozenset):
        _add(found, sorted(map(repr, value)))
    else:
        _add_bytes(
            found,
            type(value).__name__,
            value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass"),
        )


def _add_bytes(found: Any, head: str, body: Any = b"") -> None:
    found.update(f"{head} {len(body)}\n".encode())
    found.update(body)
