"""The environment in which a Ray of one's own starts."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from raysplit.cluster.on_ray.own_session import starting

_NAMES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")


class Ray:
    """What `starting` touches of Ray; it notes what it would read of the environment."""

    def __init__(self) -> None:
        self.read: list[dict[str, str | None]] = []
        self._private = SimpleNamespace(ray_constants=SimpleNamespace(ENABLE_RAY_CLUSTER=True))
        loader = SimpleNamespace(reset_cache=self._note)
        config = SimpleNamespace(initialize=lambda text: None)
        self._raylet = SimpleNamespace(
            Config=config, AuthenticationTokenLoader=SimpleNamespace(instance=lambda: loader)
        )

    def _note(self) -> None:
        self.read.append({name: os.environ.get(name) for name in _NAMES})


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)


def started(ray: Any, *, dashboard: bool = False) -> dict[str, str | None]:
    with starting(ray, dashboard=dashboard):
        assert not ray._private.ray_constants.ENABLE_RAY_CLUSTER
    return ray.read[-1]  # type: ignore[no-any-return]


def test_every_session_has_a_token_of_its_own_and_none_is_left_behind() -> None:
    """All local runs of a user had one token, which the user's other clusters had, too."""
    ray = Ray()
    first, second = started(ray), started(ray)
    assert first["RAY_AUTH_MODE"] == second["RAY_AUTH_MODE"] == "token"
    assert len(first["RAY_AUTH_TOKEN"] or "") == len(second["RAY_AUTH_TOKEN"] or "") == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]
    assert first["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert not set(_NAMES) & set(os.environ)
    assert ray._private.ray_constants.ENABLE_RAY_CLUSTER


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_a_token_of_the_user_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "mine")
    assert {key for key, value in started(Ray()).items() if value == "mine"} == {name}
    assert os.environ[name] == "mine"


def test_with_a_dashboard_the_users_token_is_taken() -> None:
    assert started(Ray(), dashboard=True)["RAY_AUTH_TOKEN"] is None


def test_a_mode_of_the_user_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert started(Ray())["RAY_AUTH_MODE"] == "disabled"
