"""``links: auto``: the codecs of a run are those of the plan, and cuts and codecs are planned in turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import settings, toy_profile

from raysplit.api import train_config
from raysplit.cluster.codecs import codec_for
from raysplit.config import planned_cuts
from raysplit.config.planned_cuts import plan_codecs, with_plans
from raysplit.config.run import ConfigError, RunConfig, check_config
from raysplit.config.sources import tree_of
from raysplit.experiment.codec_costs import CodecCost, CodecCosts
from raysplit.prediction.codecs.choose import CANDIDATES
from raysplit.runs.folder import read_metrics

WIDTHS = (16, 12, 10, 5)
ERRORS = {"bfloat16": 3e-6, "int8": 2e-5, "int4": 5e-3}
SHARES = {"bfloat16": 0.5, "int8": 0.25, "int4": 0.125}


def cost(kind: Any, cut: int, text: Any) -> CodecCost:
    plain, share = (text[0], 0.7) if isinstance(text, list) else (text, 1.0)
    return CodecCost(
        kind=kind,
        cut=cut,
        codec=text,
        name=repr(codec_for(kind, text)),
        raw_bytes=2048,
        coded_bytes=round(2048 * SHARES[plain] * share),
        share=share,
        error=ERRORS[plain],
        cosine=1.0,
        encode_ms_per_mib=50.0,
        decode_ms_per_mib=50.0,
    )


def file_of_costs(folder: Path, *cuts: int) -> str:
    rows = [cost(k, i, c) for k in ("smashed", "gradients") for i in range(len(cuts)) for c in CANDIDATES[1:]]
    path = folder / "codecs.json"
    CodecCosts(device="toy", model="toy", cuts=cuts, batch_size=16, costs=tuple(rows)).write(path)
    return str(path)


def config(folder: Path, mbit_per_s: float = 0.016, cuts: tuple[int, ...] = (1,), **changes: Any) -> RunConfig:
    profile = toy_profile(
        folder,
        batch_size=16,
        activations=[8 * 16 * width for width in WIDTHS],
        parameters=[100] * 4,
        shapes=[f"{width} float64" for width in WIDTHS],
    )
    device = {"profile": profile, "slowdown": 0.01, "up_mbit_per_s": mbit_per_s, "down_mbit_per_s": mbit_per_s}
    topology = {
        "devices": {"d": device},
        "owners": "d",
        "nodes": ["d", "d"],
        "codecs": file_of_costs(folder, *cuts),
    }
    base = {"algorithm": {"name": "splitfed_v1", "cut": 1}, "links": "auto", "topology": topology}
    return check_config(settings(**{**base, **changes}))


def test_a_run_has_the_codecs_of_the_plan(tmp_path: Path) -> None:
    planned = with_plans(config(tmp_path))
    assert (planned.links.smashed, planned.links.gradients) == (["int4", "zstd"], ["int4", "zstd"])
    result = train_config(config(tmp_path), folder=tmp_path / "run")
    assert sum(t.num_bytes for t in result.links) < sum(t.raw_bytes for t in result.links)
    written = check_config(tree_of(str(tmp_path / "run" / "config.yaml"), {}))
    assert written.links == planned.links
    assert "raw_bytes" in read_metrics(tmp_path / "run")[-1]


def test_the_budget_binds(tmp_path: Path) -> None:
    links = {"auto": True, "budget_z": 1e-4, "budget_g": 0, "labels": "narrow", "warmup_rounds": 2}
    planned = with_plans(config(tmp_path, links=links)).links
    assert planned.smashed == ["int8", "zstd"]
    assert planned.gradients == "identity"
    assert (planned.labels, planned.warmup_rounds, planned.auto) == ("narrow", 2, False)


def test_fast_links_are_left_alone(tmp_path: Path) -> None:
    planned = with_plans(config(tmp_path, mbit_per_s=1e6, links={"auto": True, "warmup_rounds": 1})).links
    assert (planned.smashed, planned.gradients, planned.rules) == ("identity", "identity", ())


def test_cuts_and_codecs_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codecs make links faster, so other cuts may be best with them; of all plans the shortest round is taken."""
    algorithm = {"name": "mpsl", "cuts": "auto", "units": [1, 2], "plan_links": "stages"}
    asked: list[float] = []
    tried = [[1, 2, 3], [1, 3, 4], [1, 2, 3]]
    real = planned_cuts.with_planned_cuts

    def cuts(given: RunConfig, *, faster: float = 1.0) -> RunConfig:
        asked.append(faster)
        algorithm = given.algorithm.model_copy(update={"cuts": tried[len(asked) - 1]})
        return real(given.model_copy(update={"algorithm": algorithm}))

    def measured(given: RunConfig, has_others: bool) -> CodecCosts:
        costs = given.topology.codec_costs  # type: ignore[union-attr]
        return replace(costs, cuts=tuple(given.algorithm.model_dump()["cuts"]))

    monkeypatch.setattr(planned_cuts, "with_planned_cuts", cuts)
    monkeypatch.setattr(planned_cuts, "_measured", measured)
    given = config(tmp_path, algorithm=algorithm, cuts=(1, 2, 3))
    cut, plan = plan_codecs(given, budget_z=0.01, budget_g=0.1)
    assert asked[0] == 1.0
    assert asked[1] > 2
    assert len(asked) == 3  # the third cuts are the first again
    rounds = []
    for each in tried[:2]:
        fixed = config(tmp_path, algorithm={"name": "mpsl", "cuts": each}, cuts=tuple(each))
        monkeypatch.setattr(planned_cuts, "with_planned_cuts", real)
        rounds.append(plan_codecs(fixed, budget_z=0.01, budget_g=0.1)[1].round_s)
    assert plan.round_s == min(rounds)
    assert cut.algorithm.model_dump()["cuts"] == tried[rounds.index(min(rounds))]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"links": {"auto": True, "smashed": "int8"}}, "auto chooses the codecs .* and smashed has one; leave it out"),
        (
            {"links": {"auto": True, "rules": [{"from": "owner-*", "kind": "gradients", "codec": "int8"}]}},
            "and rules has one",
        ),
        ({"links": {"budget_z": 0.5}}, "budget_z is for auto: true, which is not set"),
        ({"links": {"auto": True, "budget_g": -1}}, "links.budget_g: must be greater than or equal to 0"),
        ({"topology": None}, "links.auto chooses codecs for the links of a topology, and there is none"),
        ({"links": "automatic"}, "links: "),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, **changes)


def test_a_method_without_cuts_has_nothing_to_choose(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fedavg, which cuts no model"):
        with_plans(config(tmp_path, algorithm={"name": "fedavg"}))
