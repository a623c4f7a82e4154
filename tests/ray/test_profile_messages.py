"""``raysplit profile --with-messages`` on a local Ray."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from raysplit.cli.planning import profile as profiling


@pytest.mark.slow  # it starts three processes
@pytest.mark.usefixtures("ray_session")
def test_profile_tells_what_calls_and_messages_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both were guessed for predictions of runs without pacing, or fitted to runs of another model."""
    monkeypatch.setattr(profiling, "_ROUND_TRIPS", 5)
    command = "--model mlp --input-shape 4 --num-classes 2 --batch-size 8 --repeats 1 --with-messages --json"
    result = CliRunner().invoke(profiling.profile, command.split(), catch_exceptions=False)
    assert result.exit_code == 0
    record = json.loads(result.output.splitlines()[-1])
    assert record["model"] == "mlp"
    costs = record["messages"]
    assert set(costs) == {"step_overhead_ms", "latency_ms", "bandwidth_mbit_per_s"}
    assert 0 < costs["step_overhead_ms"] < 1000
    assert 0 <= costs["latency_ms"] < 1000
    assert costs["bandwidth_mbit_per_s"] > 0
