"""Codecs on a model's own values: what is measured, when coding pays, and the choice for the links of a topology."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support import settings, toy_profile

from raysplit.cli.main import cli
from raysplit.cluster.codecs import IDENTITY, codec_for
from raysplit.config.build import build, build_dry
from raysplit.config.run import ConfigError, check_config
from raysplit.experiment.codec_costs import CodecCost, CodecCosts, load_codec_costs
from raysplit.experiment.experiment import Experiment
from raysplit.prediction.codecs.choose import CANDIDATES, _rules, choose_codecs, cut_links
from raysplit.prediction.codecs.measure import measure_codecs
from raysplit.prediction.simulate import simulate

ERRORS = {"bfloat16": 3e-6, "int8": 2e-5, "int4": 5e-3}
SHARES = {"bfloat16": 0.5, "int8": 0.25, "int4": 0.125}


def cost(kind: Any, cut: int, text: Any, raw_bytes: int = 8 * 16 * 16, ms: float = 50.0) -> CodecCost:
    plain = text[0] if isinstance(text, list) else text
    share = 0.7 if isinstance(text, list) else 1.0
    return CodecCost(
        kind=kind,
        cut=cut,
        codec=text,
        name=repr(codec_for(kind, text)),
        raw_bytes=raw_bytes,
        coded_bytes=round(raw_bytes * SHARES[plain] * share),
        share=share,
        error=ERRORS[plain] * (1 if kind == "smashed" else 5),
        cosine=1.0,
        encode_ms_per_mib=ms * (2 if isinstance(text, list) else 1),
        decode_ms_per_mib=ms,
    )


def costs(num_cuts: int, ms: float = 50.0) -> CodecCosts:
    rows = [cost(k, i, c, ms=ms) for k in ("smashed", "gradients") for i in range(num_cuts) for c in CANDIDATES[1:]]
    return CodecCosts(device="toy", model="toy", cuts=(1,) * num_cuts, batch_size=16, costs=tuple(rows))


def described(folder: Path, algorithm: dict[str, Any], mbit_per_s: float = 0.016) -> Experiment:
    widths = (16, 12, 10, 5)
    toy = toy_profile(
        folder,
        batch_size=16,
        activations=[8 * 16 * width for width in widths],
        parameters=[100] * 4,
        shapes=[f"{width} float64" for width in widths],
    )
    device = {"profile": toy, "slowdown": 0.01, "up_mbit_per_s": mbit_per_s, "down_mbit_per_s": mbit_per_s}
    topology = {"devices": {"d": device}, "owners": "d", "nodes": ["d", "d"], "samples_per_owner": 32}
    return build_dry(check_config(settings(algorithm=algorithm, topology=topology)))


def test_when_coding_pays() -> None:
    """int8 by row saves 150,344 of 200,704 bytes; at 0.28 ms for coding that is worth it below 537 MB/s."""
    saved, raw = 150_344, 200_704
    per_mib = 0.28 / 2 / (raw / 2**20)
    base = cost("smashed", 0, "int8", raw_bytes=raw, ms=per_mib)
    exact = CodecCost(**{**base.__dict__, "coded_bytes": raw - saved})
    rate = exact.break_even_bytes_per_s
    assert rate == pytest.approx(saved / 0.28e-3)
    for factor, is_faster in ((0.99, True), (1.01, False)):
        plain_ms, coded_ms = [1e3 * n / (factor * rate) for n in (raw, raw - saved)]
        assert (coded_ms + exact.coding_ms < plain_ms) == is_faster


def test_the_choice_is_that_of_brute_force(tmp_path: Path) -> None:
    experiment = described(tmp_path, {"name": "splitfed_v2", "cut": 2})
    measured = costs(1)
    plan = choose_codecs(experiment, measured)
    links = cut_links(experiment)
    assert [(link.sender, link.receiver, link.kind) for link in links] == [
        ("owner-*", "server", "smashed"),
        ("server", "owner-*", "gradients"),
    ]
    best = min(
        simulate(experiment, links=check_config(settings(links=chosen)).links.link_rules(), costs=measured).round_s[0]
        for z, g in product(CANDIDATES, CANDIDATES)
        for chosen in [{"smashed": z, "gradients": g}]
        if not isinstance(z, list) and not isinstance(g, list)
    )
    assert plan.round_s <= best < plan.plain_round_s
    assert plan.links() == {"smashed": ["int4", "zstd"], "gradients": ["int4", "zstd"]}


def test_a_budget_holds_for_the_sum_of_all_cuts(tmp_path: Path) -> None:
    """Three cuts of MP-SL: int4 loses 5e-3 at each, so an error of 0.011 leaves it to two of them."""
    experiment = described(tmp_path, {"name": "mpsl", "cuts": [1, 2, 3]})
    plan = choose_codecs(experiment, costs(3), budget_z=0.011, budget_g=0.1)
    assert len(plan.choices) == 6
    smashed = [choice for choice in plan.choices if choice.link.kind == "smashed"]
    assert sum(choice.error for choice in smashed) <= 0.011
    assert sum("int4" in repr(choice.codec) for choice in smashed) == 2
    assert plan.round_s < plan.plain_round_s
    assert check_config(settings(links=plan.links())).links.link_rules().all_codecs
    none = choose_codecs(experiment, costs(3), budget_z=0, budget_g=0)
    assert none.links() == {}
    assert none.round_s == none.plain_round_s == simulate(experiment, links=_rules(experiment, none.choices)).round_s[0]


def test_fast_links_and_slow_codecs_are_left_alone(tmp_path: Path) -> None:
    experiment = described(tmp_path, {"name": "splitnn", "cut": 2}, mbit_per_s=1e6)
    plan = choose_codecs(experiment, costs(1, ms=5e4))
    assert [choice.codec for choice in plan.choices] == [IDENTITY, IDENTITY]


def test_what_is_measured(tmp_path: Path) -> None:
    config = check_config(
        settings(
            algorithm={"name": "mpsl", "cuts": [1, 2]},
            model={"name": "mlp", "hidden": [32, 16], "dtype": "float32"},
            links={"smashed": {"codec": "int4", "by": "tile"}, "rules": [_up("stc")]},
        )
    )
    found = measure_codecs(build(config), steps=3, repeats=1, device="here")
    assert {(c.kind, c.cut) for c in found.costs} == {(k, i) for k in ("smashed", "gradients") for i in (0, 1)} | {
        ("weights", -1)
    }
    by_name = {(c.kind, c.cut, json.dumps(c.codec)): c for c in found.costs}
    first = by_name["smashed", 0, '"int8"']
    assert first.raw_bytes == 16 * 32 * 4
    assert first.coded_bytes == 16 + 16 * 5 + 16 * 32
    assert 0 < first.error < 1e-3
    assert first.cosine > 0.999
    assert by_name["smashed", 1, '"zstd"'].error == 0
    assert by_name["smashed", 0, '{"codec": "int4", "by": "tile"}'].share == 1
    found.write(tmp_path / "codecs.json")
    assert load_codec_costs(str(tmp_path / "codecs.json")) == found


def _up(codec: str) -> dict[str, Any]:
    return {"from": "owner-*", "kind": "weights", "codec": codec}


def test_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "codecs.json"
    device = {"devices": {"d": {}}, "owners": "d", "codecs": str(path)}
    with pytest.raises(ConfigError, match=r"topology.codecs: .* cannot be read: No such file"):
        check_config(settings(topology=device))
    path.write_text("[1]")
    with pytest.raises(ConfigError, match=r"is not a file of raysplit codecs --output"):
        check_config(settings(topology=device))


def test_the_commands(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    tree = settings(algorithm={"name": "splitfed_v1", "cut": 1}, model={"name": "mlp", "hidden": [32]})
    config.write_text(json.dumps(tree))
    out = tmp_path / "codecs.json"
    arguments = ["codecs", str(config), "--steps", "1", "--repeats", "1", "--output", str(out)]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "smashed at cut 1" in result.output
    assert "pays below" in result.output
    tree["topology"] = {
        "devices": {"d": {"profile": toy_profile(tmp_path, batch_size=16, activations=[2048] * 4, parameters=[9] * 4)}},
        "owners": "d",
        "nodes": ["d"],
        "codecs": str(out),
    }
    tree["topology"]["devices"]["d"] |= {"up_mbit_per_s": 1, "down_mbit_per_s": 1}
    config.write_text(json.dumps(tree))
    plan = CliRunner().invoke(cli, ["plan", str(config), "--codecs", "auto", "--json"], catch_exceptions=False)
    chosen = json.loads(plan.output)
    assert chosen["links"]["smashed"] == ["int4", "zstd"] or chosen["links"]["smashed"] == "int4"
    assert chosen["round_s"] < chosen["plain_round_s"]
    saved = CliRunner().invoke(cli, [*arguments[:6], "--json"], catch_exceptions=False)
    assert {row["kind"] for row in json.loads(saved.output)["saved_ms_per_round"]} == {
        "smashed",
        "gradients",
        "weights",
    }
    bad = CliRunner().invoke(cli, ["plan", str(config), "--codecs", "auto", "--budget", "1"])
    assert "must be two numbers such as 0.01:0.1" in bad.output
