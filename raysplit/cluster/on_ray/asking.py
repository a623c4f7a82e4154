"""Calls to all places of a cluster at once: what they answer, and which of them do not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from raysplit.cluster.contract import PlaceLost
from raysplit.cluster.on_ray.place import unwrapped


async def asked(actors: Mapping[str, Any], verb: str) -> list[Any]:
    """Call a verb of all places and return their answers."""
    calls = {name: getattr(actor, verb).remote() for name, actor in actors.items()}
    return [await unwrapped(ref, name) for name, ref in calls.items()]


async def silent(actors: Mapping[str, Any], silence_s: float) -> dict[str, str]:
    """Return the places that do not answer within ``silence_s`` seconds, each with the reason."""
    pulses = {name: asyncio.ensure_future(unwrapped(actor.pulse.remote(), name)) for name, actor in actors.items()}
    if pulses:
        await asyncio.wait(pulses.values(), timeout=silence_s)
    found = {}
    for name, pulse in pulses.items():
        if not pulse.done():
            pulse.cancel()
            found[name] = f"it has not answered for {silence_s:g} s"
        elif isinstance(error := pulse.exception(), PlaceLost):
            found[name] = error.reason
        elif error is not None:
            raise error
    return found
