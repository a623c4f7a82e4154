"""A run with code of one's own says that parties in one place share memory, and what keeps them apart."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from raysplit.experiment.cluster import ClusterOptions
from raysplit.training.cluster import tell_shared_memory


def told(caplog: pytest.LogCaptureFixture, plain: Any, **options: Any) -> list[tuple[int, str]]:
    caplog.set_level(logging.INFO, "raysplit")
    caplog.clear()
    experiment: Any = SimpleNamespace(plain=plain, cluster=ClusterOptions(**options))
    tell_shared_memory(experiment)
    return [(record.levelno, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize(
    "section",
    [{"training": {"loss": "mine:part"}}, {"model": {"name": "mine:part"}}, {"algorithm": {"name": "mine:part"}},
     {"data": {"name": "mine:part"}}, {"links": {"smashed": ["int8", {"name": "mine:part"}]}}],
)  # fmt: skip
def test_own_code_on_shared_places_is_told(section: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A loss that ran at the server read the raw samples of four owners, and nothing said that it could."""
    ((level, text),) = told(caplog, section)
    assert level == logging.WARNING
    assert "mine:part" in text
    assert "can read the raw samples of every owner there; cluster.sharing: alone gives" in text


def test_in_one_process_ray_is_part_of_the_way_out(caplog: pytest.LogCaptureFixture) -> None:
    ((level, text),) = told(caplog, {"training": {"loss": "mine:part"}}, kind="local")
    assert (level, "cluster.kind: ray and cluster.sharing: alone" in text) == (logging.INFO, True)


@pytest.mark.parametrize(
    ("plain", "options"),
    [({"training": {"loss": "mine:part"}}, {"sharing": "alone"}), ({"training": {"loss": "mse"}}, {}), ({}, {})],
)
def test_otherwise_nothing_is_said(plain: Any, options: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, plain, **options) == []
