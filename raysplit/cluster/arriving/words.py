"""Words for values of others in messages: short, and with control characters escaped."""

from __future__ import annotations

from typing import Any


def shown(value: Any) -> str:
    """Describe a value of an unexpected type in a few words."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text {value[:20]!r}"
    if isinstance(value, bool | int | float):
        return f"the number {value!r}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    name = type(value).__name__[:20]
    return f"a {'mapping' if isinstance(value, dict) else name}"


def quoted(name: Any) -> str:
    """Return a name as text with control characters escaped, cut short."""
    return repr(name) if not isinstance(name, str) or len(name) <= 60 else f"{name[:60]!r}..."
