"""``raysplit validate``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raysplit.cli.planning.validate import validate
from raysplit.config.errors import ConfigError
from raysplit.schedulers.cuts.profiles import Profile, UnitProfile

UNITS = tuple(
    UnitProfile(
        name=f"unit{i}", forward_ms=2.0, backward_ms=2.0, update_ms=0.0, activation_bytes=512, parameter_bytes=512
    )
    for i in range(4)
)
CONFIG = """
model: {{name: mlp, hidden: [8, 8, 8]}}
data: {{name: random, num_samples: 40, dim: 8, num_classes: 2}}
partition: {{name: iid, num_owners: 2}}
algorithm: {{name: mpsl, cuts: [1, 2, 3]}}
training: {{rounds: 2, batch_size: 16, max_steps: 1, optimizer: {{name: sgd, lr: 0.1}}}}
cluster: {{kind: local}}
topology:
  devices: {{vm: {{profile: {profile}, slowdown: {slowdown}}}}}
  owners: vm
  nodes: [vm, vm]
"""


@pytest.fixture
def configs(tmp_path: Path) -> list[str]:
    """A run at the pace of machines, and the same on machines ten times as slow."""
    profile = tmp_path / "toy.csv"
    Profile(model="mlp", device="toy", batch_size=16, units=UNITS).to_csv(profile)
    found = []
    for name, slowdown in (("slow", 10), ("fast", 1)):
        path = tmp_path / f"{name}.yaml"
        path.write_text(CONFIG.format(profile=profile, slowdown=slowdown))
        found.append(str(path))
    return found


def validated(*arguments: str) -> Result:
    return CliRunner().invoke(validate, arguments, catch_exceptions=False)


def test_predictions_are_told_beside_measurements(
    configs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "found.json"
    result = validated(*configs, "--json", "--output", str(output))
    assert result.exit_code == 0
    record = json.loads(result.output.splitlines()[-1])
    assert json.loads(output.read_text()) == record
    slow, fast = record["runs"]
    assert [slow["name"], fast["name"]] == configs
    assert slow["predicted_s"] == pytest.approx(10 * fast["predicted_s"], rel=0.01)
    assert slow["measured_s"] >= 0.99 * slow["predicted_s"]  # a paced run takes the time that is described, or longer
    assert slow["error"] == pytest.approx(slow["predicted_s"] / slow["measured_s"] - 1)
    assert record["mean_error"] == pytest.approx((abs(slow["error"]) + abs(fast["error"])) / 2)
    assert record["kendall_tau"] == (1 if slow["measured_s"] > fast["measured_s"] else -1)
    assert not (tmp_path / "runs").exists()


def test_a_single_run_has_no_order(configs: list[str]) -> None:
    result = validated(configs[1])
    assert result.exit_code == 0
    assert "mean absolute error" in result.output
    assert "rank correlation" not in result.output


def test_mistakes_are_told_before_anything_runs(configs: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"slow\.yaml has no topology, from which its rounds are predicted; add one"):
        validated(*configs, "--set", "topology=null")
    assert "is given twice" in validated(configs[0], configs[0]).output
    assert "must end in .json" in validated(*configs, "--output", "t.txt").output
