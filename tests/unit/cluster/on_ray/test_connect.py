"""Getting hold of Ray, without Ray: a module in its place records what is asked of it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from raysplit.cluster.on_ray.connect import RayOptions, RayUnreachable, connect, ray_left_as_found


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    state = {"up": False}
    ray = SimpleNamespace(
        init=lambda **_: state.update(up=True),
        shutdown=lambda: state.update(up=False),
        is_initialized=lambda: state["up"],
        cluster_resources=lambda: {"CPU": 2.0},
        job_config=SimpleNamespace(JobConfig=SimpleNamespace),
        _private=SimpleNamespace(ray_constants=SimpleNamespace(ENABLE_RAY_CLUSTER=True)),
        _raylet=SimpleNamespace(
            Config=SimpleNamespace(initialize=lambda _: None),
            AuthenticationTokenLoader=SimpleNamespace(instance=lambda: SimpleNamespace(reset_cache=lambda: None)),
        ),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return ray


def test_a_session_that_was_started_meanwhile_ends(fake_ray: SimpleNamespace) -> None:
    with ray_left_as_found():
        assert connect(RayOptions()) == {"CPU": 2.0}
        assert fake_ray.is_initialized()
    assert not fake_ray.is_initialized()


def test_a_session_that_was_there_before_stays(fake_ray: SimpleNamespace) -> None:
    """A command that looked at Ray once ended the session of the program that had called it."""
    fake_ray.init()
    with ray_left_as_found():
        connect(RayOptions())
    assert fake_ray.is_initialized()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:port"])
def test_an_address_where_nobody_answers_is_told_at_once(address: str, fake_ray: SimpleNamespace) -> None:
    with pytest.raises(RayUnreachable, match=f"Ray could not be reached at {address}") as caught:
        connect(RayOptions(address=address))
    assert "or leave the address out to start a local cluster" in str(caught.value)
    assert not fake_ray.is_initialized()
