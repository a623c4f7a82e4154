"""The cost of deployments, to the last digit of the published architecture's arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from raysplit.cli.planning.split_cost import split_cost
from raysplit.models.classifier.heads import build_classifier
from raysplit.serving.cost.deployments import (
    ActivationBytes,
    BreakEven,
    Times,
    activation_bytes,
    break_even,
    compute_s,
    deployments,
    model_sizes,
)
from raysplit.serving.links import EdgeLink

SHAPES3D, FACES = (8, 4), (3, 2, 6)


@pytest.mark.parametrize(
    ("image", "backbone", "features", "z_bytes", "of_float_input", "of_byte_input"),
    [
        (64, "vgg16", 2_048, 8_192, 0.1667, 0.667),
        (64, "mobilenet_v3_small", 2_304, 9_216, 0.1875, 0.750),
        (64, "efficientnet_b0", 5_120, 20_480, 0.4167, 1.667),
        (224, "vgg16", 25_088, 100_352, 0.1667, 0.667),
        (224, "mobilenet_v3_small", 28_224, 112_896, 0.1875, 0.750),
        (224, "efficientnet_b0", 62_720, 250_880, 0.4167, 1.667),
    ],
)
def test_the_features_beside_the_picture(
    image: int, backbone: str, features: int, z_bytes: int, of_float_input: float, of_byte_input: float
) -> None:
    sizes = model_sizes(backbone, SHAPES3D, image)
    split = deployments(sizes)[-1]
    assert (sizes.features, split.up_bytes) == (features, z_bytes)
    assert round(split.up_bytes / (4 * sizes.pixels), 4) == of_float_input
    assert round(split.up_bytes / sizes.pixels, 3) == of_byte_input


@pytest.mark.parametrize("image", [64, 96, 224])
def test_the_ratio_is_a_matter_of_channels_alone(image: int) -> None:
    for backbone, channels in (("vgg16", 512), ("mobilenet_v3_small", 576), ("efficientnet_b0", 1280)):
        sizes = model_sizes(backbone, SHAPES3D, image)
        assert 3072 * sizes.features == channels * sizes.pixels


@pytest.mark.parametrize(
    ("backbone", "image", "classes", "heads", "separate", "shared", "ratio", "of_shared", "of_separate"),
    [
        ("vgg16", 64, SHAPES3D, (526_600, 525_572), 30_481_548, 15_766_860, 0.5173, 0.9333, 0.4827),
        ("mobilenet_v3_small", 64, SHAPES3D, (592_136, 591_108), 3_037_260, 2_110_252, 0.6948, 0.4393, 0.3052),
        ("efficientnet_b0", 64, SHAPES3D, (1_313_032, 1_312_004), 10_640_132, 6_632_584, 0.6234, 0.6042, 0.3766),
        ("vgg16", 224, FACES, (6_423_555, 6_423_298, 6_424_326), 63_415_243, 33_985_867, 0.5359, 0.4330, 0.2320),
        ("mobilenet_v3_small", 224, FACES, (7_226_371, 7_226_114, 7_227_142), 24_460_651, 22_606_635,
         0.9242, 0.0410, 0.0379),
        ("efficientnet_b0", 224, FACES, (16_057_347, 16_057_090, 16_058_118), 60_195_199, 52_180_103,
         0.8668, 0.0768, 0.0666),
    ],
)  # fmt: skip
def test_parameters_of_every_deployment(
    backbone: str, image: int, classes: tuple[int, ...], heads: tuple[int, ...],
    separate: int, shared: int, ratio: float, of_shared: float, of_separate: float,
) -> None:  # fmt: skip
    sizes = model_sizes(backbone, classes, image)
    assert sizes.head_parameters == heads
    assert (sizes.separate_parameters, sizes.shared_parameters) == (separate, shared)
    local_separate, local_shared, remote, split = deployments(sizes)
    assert local_separate.edge_weight_bytes == 4 * separate
    assert local_shared.edge_weight_bytes == 4 * shared
    assert remote.edge_weight_bytes == 0
    assert round(shared / separate, 4) == ratio
    assert round(split.edge_weight_bytes / local_shared.edge_weight_bytes, 4) == of_shared
    assert round(split.edge_weight_bytes / local_separate.edge_weight_bytes, 4) == of_separate
    assert split.edge_weight_bytes < local_shared.edge_weight_bytes < local_separate.edge_weight_bytes


def test_the_sizes_are_those_of_the_model_that_is_built() -> None:
    model = build_classifier("mobilenet_v3_small", {"scale": 8, "shape": 4}, image_size=64, seed=0)
    assert sum(p.numel() for p in model.parameters()) == 2_110_252


def test_traffic_up_and_down() -> None:
    sizes = model_sizes("efficientnet_b0", FACES, 224)
    _, _, remote, split = deployments(sizes)
    assert (remote.up_bytes, remote.down_bytes) == (602_112, 44)
    assert (split.up_bytes, split.down_bytes) == (250_880, 44)
    assert deployments(sizes, feature_bytes=2)[-1].up_bytes == 125_440
    assert deployments(sizes, num_servers=3)[-1].up_bytes == 752_640
    assert deployments(sizes, weight_bytes=2)[-1].edge_weight_bytes == 2 * 4_007_548


def test_a_photograph_over_a_gigabit_link() -> None:
    """2,835 x 3,543 float32 pixels: 114.95 MiB and 0.9643 s; the features take 2.007 ms."""
    photograph = 2835 * 3543 * 3 * 4
    assert photograph == 120_532_860
    assert round(photograph / 2**20, 2) == 114.95
    link = EdgeLink(rate_bit_per_s=1e9)
    assert round(link.expected_s(photograph), 4) == 0.9643
    assert round(link.expected_s(250_880) * 1e3, 3) == 2.007
    remote = deployments(model_sizes("efficientnet_b0", FACES, 224), input_bytes=photograph)[2]
    assert remote.up_bytes == photograph


TIMES = Times(edge_backbone_s=3.0, edge_heads_s=(1.0, 2.0), server_backbone_s=0.5, server_heads_s=(0.25, 0.5))


def test_compute_of_every_paradigm() -> None:
    assert [compute_s(p, TIMES) for p in ("LoC-STL", "LoC-MTL", "RoC", "SC")] == [9.0, 6.0, 1.25, 3.75]


def test_latency_at_the_break_even_rate_is_equal() -> None:
    """vgg16 at 64: Z = 8,192 bytes, a float32 picture I = 49,152.

    Against LoC-MTL: 8 Z / (3 - 0.75) s. Against RoC: 8 (I - Z) / (3 - 0.5) s.
    """
    _, local, remote, split = deployments(model_sizes("vgg16", SHAPES3D, 64))
    against_local, against_remote = break_even(local, split, TIMES), break_even(remote, split, TIMES)
    assert against_local == BreakEven(wins="above", rate_bit_per_s=pytest.approx(65_536 / 2.25))
    assert against_remote == BreakEven(wins="below", rate_bit_per_s=pytest.approx(327_680 / 2.5))
    for other, rate in ((local, 65_536 / 2.25), (remote, 327_680 / 2.5)):
        link = EdgeLink(rate_bit_per_s=rate)
        sooner, later = (compute_s(d.paradigm, TIMES) + link.expected_s(d.up_bytes) for d in (split, other))
        assert sooner == pytest.approx(later)


def test_where_there_is_no_break_even_rate() -> None:
    _, local, remote, split = deployments(model_sizes("vgg16", SHAPES3D, 64))
    slow_server = Times(edge_backbone_s=1.0, edge_heads_s=(0.1,), server_backbone_s=2.0, server_heads_s=(0.2,))
    assert break_even(local, split, slow_server) == BreakEven(wins="never", rate_bit_per_s=None)
    assert break_even(remote, split, slow_server) == BreakEven(wins="always", rate_bit_per_s=None)
    byte_picture = deployments(model_sizes("efficientnet_b0", SHAPES3D, 64), input_bytes=12_288)
    assert break_even(byte_picture[2], byte_picture[3], TIMES).wins == "never"
    assert break_even(byte_picture[2], byte_picture[3], slow_server).wins == "above"


def test_activation_bytes_of_the_reference_backbone() -> None:
    """Outputs 16x32x32, 32x16x16, 64x8x8, 128x4x4, each again by its ReLU; the first ReLU has 16,384 in and out."""
    model = build_classifier("small", {"a": 2}, image_size=64, seed=0).train()
    expected = ActivationBytes(peak=4 * 2 * 16_384, total=4 * 2 * (16_384 + 8_192 + 4_096 + 2_048))
    assert activation_bytes(model.backbone, (3, 64, 64)) == expected
    assert model.backbone.training
    assert activation_bytes(model.heads["a"], (2048,)).total == 4 * (256 * 3 + 2)


def _json(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(split_cost, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.output))


def test_the_command_gives_exact_integers() -> None:
    answer = _json("--backbone", "efficientnet_b0", "--heads", "3,2,6", "--image", "224")
    assert answer["backbone_parameters"] == 4_007_548
    assert answer["head_parameters"] == [16_057_347, 16_057_090, 16_058_118]
    assert answer["z_bytes"] == {"float32": 250_880, "float16": 125_440, "int8": 62_720}
    by_name = {d["paradigm"]: d for d in answer["deployments"]}
    assert by_name["LoC-STL"]["edge_weight_bytes"] == 4 * 60_195_199
    assert by_name["SC"]["up_bytes"] == 250_880
    assert by_name["SC"]["transfer_s"] == {"1e+07": 0.200704, "1e+08": 0.0200704, "1e+09": 0.00200704}
    assert "break_even" not in answer, "without measured times there is no break-even rate"


def test_the_command_measures_times_when_asked() -> None:
    answer = _json("--backbone", "small", "--heads", "8,4", "--image", "64", "--measure", "--server-speedup", "10")
    assert answer["times"]["edge_backbone_s"] > 0
    assert answer["times"]["server_backbone_s"] == pytest.approx(answer["times"]["edge_backbone_s"] / 10)
    assert answer["break_even"]["LoC-MTL"]["wins"] == "above"
    assert answer["break_even"]["RoC"]["wins"] == "below"
    assert answer["deployments"][0]["latency_s"]["1e+07"] > 0


def test_the_command_prints_a_table_and_draws_a_picture(tmp_path: Path) -> None:
    arguments = ["--backbone", "small", "--heads", "8,4", "--image", "64", "--picture", str(tmp_path / "cost.png")]
    result = CliRunner().invoke(split_cost, [*arguments, "--rates", "10e6"], catch_exceptions=False)
    assert result.exit_code == 0
    for word in ("LoC-STL", "LoC-MTL", "RoC", "SC", "2,048", "10 Mb/s"):
        assert word in result.output
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone", "vgg"], "unknown backbone 'vgg'"),
        (["--heads", "3,x"], "'3,x' is not a list of whole numbers"),
        (["--heads", "1"], "at least 2 classes"),
        (["--image", "4", "--backbone", "vgg16"], "too small"),
        (["--rates", "0"], "rate above 0"),
        (["--jitter", "-1"], "jitter of at least 0"),
        (["--latency", "nan"], "a latency of nan s"),
        (["--trace", "{changing}", "--rates", "1e6"], "bandwidth_mbit_per_s is in the file and a constant setting"),
        (["--trace", "{changing}", "--trace-repeat", "4"], "begins anew after 4 s, and its last row is at 10 s"),
        (["--trace", "{delayed}", "--latency", "0.1"], "latency_ms is in the file and a constant setting"),
        (["--trace", "missing.csv"], "'missing.csv' does not exist"),
        (["--trace-repeat", "4"], "give --trace FILE.csv as well"),
        (["--seed", "4"], "nothing varies; give --jitter, --loss or --trace"),
        (["--requests", "10"], "nothing varies"),
    ],
)
def test_the_command_names_mistakes(arguments: list[str], message: str, traces: dict[str, Path]) -> None:
    given = [argument.format(**traces) for argument in arguments]
    result = CliRunner().invoke(split_cost, ["--backbone", "small", "--heads", "3,2", "--image", "64", *given])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.fixture
def traces(tmp_path: Path) -> dict[str, Path]:
    """A link of 16 Mbit/s for 10 s and then of 1, and one whose latency alone changes."""
    texts = {"changing": "seconds,bandwidth_mbit_per_s\n0,16\n10,1\n", "delayed": "seconds,latency_ms\n0,10\n5,50\n"}
    found = {name: tmp_path / f"{name}.csv" for name in texts}
    for name, path in found.items():
        path.write_text(texts[name])
    return found


SMALL = ("--backbone", "small", "--heads", "8,4", "--image", "64")


def test_requests_over_a_trace(traces: dict[str, Path]) -> None:
    """Z_b has 8,192 bytes: 4.096 ms at 16 Mbit/s, for 40 % of the requests, and 65.536 ms at 1 Mbit/s."""
    answer = _json(*SMALL, "--trace", str(traces["changing"]), "--trace-repeat", "25", "--requests", "2000")
    split = answer["deployments"][3]
    assert answer["requests"] == {"count": 2000, "seed": 0}
    assert split["percentiles_s"]["trace"] == pytest.approx({"p50": 0.065536, "p95": 0.065536, "p99": 0.065536})
    assert split["transfer_s"]["trace"] == pytest.approx(0.4 * 0.004096 + 0.6 * 0.065536, rel=5e-3)
    assert answer["deployments"][0]["percentiles_s"]["trace"] == {"p50": 0.0, "p95": 0.0, "p99": 0.0}


def test_a_trace_of_latencies_over_each_rate(traces: dict[str, Path]) -> None:
    """The second row counts as long as the first: half of the requests have 10 ms, half 50."""
    answer = _json(*SMALL, "--trace", str(traces["delayed"]), "--rates", "1e6,16e6")
    split = answer["deployments"][3]
    assert list(split["percentiles_s"]) == ["1e+06", "1.6e+07"]
    assert split["percentiles_s"]["1e+06"]["p99"] == pytest.approx(0.050 + 0.065536)
    assert split["transfer_s"]["1.6e+07"] == pytest.approx(0.030 + 0.004096, rel=5e-3)
    assert list(_json(*SMALL, "--trace", str(traces["delayed"]))["deployments"][3]["transfer_s"]) == [
        "1e+07", "1e+08", "1e+09",
    ]  # fmt: skip


def test_percentiles_come_from_the_seed_and_only_where_something_varies() -> None:
    arguments = (*SMALL, "--rates", "8e6", "--jitter", "0.1", "--loss", "0.2")
    first, again, other = (_json(*arguments, "--seed", seed)["deployments"][3] for seed in ("3", "3", "4"))
    assert first == again
    assert first["percentiles_s"] != other["percentiles_s"]
    assert first["transfer_s"]["8e+06"] == other["transfer_s"]["8e+06"] == pytest.approx((0.008192 + 0.1) / 0.8)
    assert "percentiles_s" not in _json(*SMALL)["deployments"][3]
    whole = _json(*arguments, "--measure")
    split = whole["deployments"][3]
    assert split["percentiles_s"]["8e+06"]["p50"] > split["latency_s"]["8e+06"] - split["transfer_s"]["8e+06"]


def test_the_command_prints_percentiles(traces: dict[str, Path], tmp_path: Path) -> None:
    picture = tmp_path / "cost.png"
    arguments = [*SMALL, "--trace", str(traces["changing"]), "--picture", str(picture)]
    result = CliRunner().invoke(split_cost, arguments, catch_exceptions=False)
    assert "transfer in ms of 1,000 requests" in result.output
    assert [line for line in result.output.splitlines() if "trace" in line and "SC" in line and "65.536" in line]
    assert picture.is_file()
