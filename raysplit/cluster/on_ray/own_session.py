"""The Ray that a run starts for itself: it listens on loopback alone, and has a token that nothing else has.

Ray takes this machine's own address otherwise, so that every host of the network can talk to its processes, and the
token in the user's home folder, which other clusters have too.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_MODE, _TOKEN, _TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_SEVERAL_MACHINES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # without it Ray takes 127.0.0.1 as this machine's address


@contextmanager
def starting(ray: Any, *, dashboard: bool) -> Iterator[None]:
    """Let the Ray that starts in the block listen on loopback alone and take a new token.

    With a dashboard it takes the user's token, which a browser has to be given. Where ``RAY_AUTH_TOKEN``,
    ``RAY_AUTH_TOKEN_PATH`` or ``RAY_AUTH_MODE`` is set, that is heeded.
    """
    variables = {_SEVERAL_MACHINES: "0", _MODE: os.environ.get(_MODE, "token")}
    if not (dashboard or os.environ.get(_TOKEN) or os.environ.get(_TOKEN_FILE)):
        variables[_TOKEN] = secrets.token_hex(32)
    constants = ray._private.ray_constants
    before, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        with in_environment(variables):
            read_again(ray)
            yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def read_again(ray: Any) -> None:
    """Let Ray read token and mode from the environment, from which it took them at its import or its first use."""
    ray._raylet.Config.initialize("")
    ray._raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def in_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
