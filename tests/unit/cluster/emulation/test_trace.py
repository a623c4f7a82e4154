"""Links that change over time: transfers take what their bandwidth adds up to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysplit.api import simulate
from raysplit.cluster.emulation.trace import LinkTrace, State, read_trace, sent_at
from raysplit.config.build import build_dry
from raysplit.config.run import ConfigError, RunConfig, check_config
from raysplit.prediction.closed_form import closed_form

FREE = (None, State(math.inf, math.inf, 0.0, math.inf))


def trace(rates: dict[float, float], **more: Any) -> LinkTrace:
    return LinkTrace(
        times_s=tuple(rates),
        up_bytes_per_s=tuple(rates.values()),
        down_bytes_per_s=tuple(rates.values()),
        latencies_s=(0.0,) * len(rates),
        **more,
    )


def end(found: LinkTrace) -> tuple[LinkTrace, State]:
    return found, FREE[1]


def test_transfers_by_hand() -> None:
    link = end(trace({0.0: 10.0, 2.0: 0.0, 3.0: 5.0}))
    assert sent_at(0.0, 15, link, FREE) == 1.5
    assert sent_at(0.0, 25, link, FREE) == 4.0  # 20 in two seconds, nothing in the third, 5 in the fourth
    assert sent_at(2.5, 5, link, FREE) == 4.0
    assert sent_at(100.0, 5, link, FREE) == 101.0  # the last row holds for good
    assert sent_at(0.0, 0, link, FREE) == 0.0
    slow = (None, State(1.0, 2.0, 0.0, math.inf))  # receives 2 bytes/s
    assert sent_at(0.0, 10, link, slow) == 6.0  # 4 in two seconds, nothing in the third, 2 in each behind


def test_a_trace_begins_anew_and_parties_are_ahead_in_it() -> None:
    again = trace({0.0: 10.0, 1.0: 1.0}, repeat_s=2.0)
    assert sent_at(0.0, 22, end(again), FREE) == 4.0
    assert sent_at(4.0, 5, end(again), FREE) == 4.5
    ahead = trace({0.0: 10.0, 1.0: 1.0}, repeat_s=2.0, ahead_s=1.5)
    assert sent_at(0.0, 5.5, end(ahead), FREE) == 1.0
    assert ahead.at(0.0).until_s == 0.5


@given(
    rates=st.lists(st.floats(0.0, 50.0), min_size=1, max_size=6),
    gaps=st.lists(st.floats(0.01, 3.0), min_size=6, max_size=6),
    start_s=st.floats(0.0, 30.0),
    num_bytes=st.floats(0.1, 500.0),
    repeats=st.booleans(),
)
def test_the_bandwidth_adds_up_to_the_bytes(
    rates: list[float], gaps: list[float], start_s: float, num_bytes: float, repeats: bool
) -> None:
    times = [sum(gaps[:i]) for i in range(len(rates))]
    rates[-1] = max(rates[-1], 1.0)
    link = trace(dict(zip(times, rates, strict=True)), repeat_s=times[-1] + 1.0 if repeats else None)
    left_s = sent_at(start_s, num_bytes, end(link), FREE)
    carried, time_s = 0.0, start_s
    while time_s < left_s:
        state = link.at(time_s)
        until_s = min(state.until_s, left_s)
        carried += state.up_bytes_per_s * (until_s - time_s)
        time_s = until_s
    assert carried == pytest.approx(num_bytes, rel=1e-9)


CONSTANT = {"bandwidth_mbit_per_s": 8, "latency_ms": 10}


def config(owner: dict[str, Any], **topology: Any) -> RunConfig:
    return check_config(
        {
            "model": {"name": "resnet101_mpsl"},
            "partition": {"name": "iid", "num_owners": 3},
            "algorithm": {"name": "mpsl", "cuts": [2, 26, 35]},
            "training": {"batch_size": 128},
            "topology": {
                "devices": {"pi": {"profile": "resnet101_mpsl_d1", **owner}, "vm": {"profile": "resnet101_mpsl_vm"}},
                "owners": "pi",
                "nodes": ["vm", "vm"],
                "aggregator": "vm",
                "samples_per_owner": 256,
                **topology,
            },
        }
    )


def test_a_trace_that_does_not_change_is_a_constant_link(tmp_path: Path) -> None:
    path = tmp_path / "link.csv"
    path.write_text("seconds,bandwidth_mbit_per_s,latency_ms\n0,8,10\n")
    same, constant = (simulate(config(link), engine="reference") for link in ({"trace": str(path)}, CONSTANT))
    assert list(same.log) == list(constant.log)


def test_what_a_trace_changes(tmp_path: Path) -> None:
    """Half of the time no link: rounds are longer than over the mean, and owners who take turns help."""
    path = tmp_path / "link.csv"
    path.write_text("seconds, up_mbit_per_s, down_mbit_per_s\n0, 16, 16\n10, 0, 0\n")
    changing = {"trace": str(path), "trace_repeat_s": 20}
    found = simulate(config(changing))
    assert found.engine == "reference"
    assert found.round_s[0] > simulate(config({"bandwidth_mbit_per_s": 8})).round_s[0]
    assert simulate(config(changing | {"trace_shift_s": 10})).round_s != found.round_s
    assert closed_form(build_dry(config(changing))) is None
    with pytest.raises(ConfigError, match="links change over time"):
        simulate(config(changing), engine="compiled")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seconds,bandwidth_mbit_per_s\n1,8\n", "begins at 0 seconds"),
        ("seconds,bandwidth_mbit_per_s\n0,8\n5,4\n5,2\n", "row 3 is at 5 s, after 5 s"),
        ("seconds,bandwidth_mbit_per_s\n0,-8\n", "row 1 has an upload bandwidth of -1e"),
        ("seconds,bandwidth_mbit_per_s\n0,8\n5,0\n", "never arrive"),
        ("seconds,bandwidth_mbit_per_s\n0,fast\n", "row 1 of the trace .* has bandwidth_mbit_per_s 'fast'"),
        ("seconds,bandwidth_mbit_per_s\n0,nan\n", "nan"),
        ("seconds,latency_ms\n0,inf\n", "a latency of inf"),
        ("seconds,bandwith_mbit_per_s\n0,8\n", "did you mean 'bandwidth_mbit_per_s'"),
        ("seconds\n0\n", "needs the column seconds and one more"),
        ("seconds,bandwidth_mbit_per_s,up_mbit_per_s\n0,8,8\n", "leave one out"),
        ("", "needs the column seconds"),
        ("seconds,bandwidth_mbit_per_s\n0,8\n5,4,3\n", "row 2 of the trace .* more values than the 2 columns"),
        ("seconds,bandwidth_mbit_per_s\n0,8\n5\n", "row 2 of the trace .* has bandwidth_mbit_per_s None"),
    ],
)
def test_files_that_are_no_trace(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "link.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        config({"trace": str(path)})


def test_settings_that_do_not_go_together(tmp_path: Path) -> None:
    path = tmp_path / "link.csv"
    path.write_text("seconds,bandwidth_mbit_per_s\n0,8\n5,4\n")
    with pytest.raises(ValueError, match="begins anew after 5 s"):
        config({"trace": str(path), "trace_repeat_s": 5})
    with pytest.raises(ValueError, match="a constant setting as well"):
        config({"trace": str(path), "bandwidth_mbit_per_s": 8})
    with pytest.raises(ValueError, match="there is none"):
        config({"trace_shift_s": 5})
    with pytest.raises(ValueError, match="cannot be read"):
        config({"trace": str(tmp_path / "none.csv")})
    found = read_trace(path, State(math.inf, math.inf, 0.5, math.inf), None)
    assert found.at(6.0) == State(500_000.0, 500_000.0, 0.5, math.inf)
    assert found.mean(found.up_bytes_per_s) == 750_000.0
