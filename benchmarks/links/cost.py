"""CPU seconds of coding both ways beside those of computing a batch: the overhead of a codec, and a memory copy.

    python benchmarks/links/cost.py
    python benchmarks/links/cost.py --model resnet18_cifar --cut 2 --data CIFAR10 --root data

The medians of interleaved repetitions on one thread; the machine should do nothing else.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import torch

from raysplit.cluster.codecs import codec_named
from raysplit.cluster.codecs.codec import Memory, Passage
from raysplit.cluster.links.coding import coded, decoded
from raysplit.cluster.links.kinds import Kind
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.prediction.codecs.crossing import crossings

CODECS: list[Any] = ["float16", "int8", {"codec": "int8", "by": "tensor"}, "int4", ["int4", "zstd"], "top_k"]


def both_ways(codec: Any, values: list[torch.Tensor]) -> float:
    """CPU seconds to encode and decode smashed data and gradients."""
    began_s = time.process_time()
    kinds: tuple[Kind, ...] = ("smashed", "gradients")
    for kind, tensor in zip(kinds, values, strict=True):
        at = Passage("owner-0", "", kind, None, "", memory=Memory())
        sent = coded(codec, tensor, at)
        if sent is not None:
            decoded(codec, sent, at)
    return time.process_time() - began_s


def computing(parts: Any, x: torch.Tensor, y: torch.Tensor) -> float:
    """CPU seconds of a batch through both parts, forward and backward."""
    began_s = time.process_time()
    z = parts[0](x)
    arrived = z.detach().requires_grad_()
    torch.nn.functional.cross_entropy(parts[1](arrived), y).backward()
    z.backward(arrived.grad)
    return time.process_time() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="cnn4")
    parser.add_argument("--data", default="FashionMNIST")
    parser.add_argument("--root", default="data")
    parser.add_argument("--cut", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30)
    given = parser.parse_args()
    torch.set_num_threads(1)
    tree = {
        "model": {"name": given.model},
        "data": {"name": given.data, "root": given.root, "train_samples": 2000},
        "partition": {"num_owners": 2},
        "algorithm": {"name": "splitfed_v2", "cut": given.cut},
        "cluster": {"kind": "local"},
    }
    experiment = build(check_config(tree))
    values = [c.tensors[0] for c in crossings(experiment, steps=20) if c.kind in ("smashed", "gradients")]
    spec = experiment.setting.spec
    parts, x = spec.parts([given.cut]), spec.example(32)
    y = torch.randint(0, spec.num_classes, (32,))
    seconds: dict[str, list[float]] = {"computing": [], "memory copy": []} | {str(text): [] for text in CODECS}
    for _ in range(given.repeats):
        seconds["computing"].append(computing(parts, x, y))
        began_s = time.process_time()
        for tensor in values:
            tensor.clone().clone()
        seconds["memory copy"].append(time.process_time() - began_s)
        for text in CODECS:
            seconds[str(text)].append(both_ways(codec_named(text), values))
    batch_s = median(seconds["computing"])
    print(f"{given.model}, cut {given.cut}, batch 32: {values[0].nbytes / 1024:.1f} KiB each way")
    print("| what | ms | of computing |\n|---|---|---|")
    for name, found in seconds.items():
        print(f"| {name} | {1e3 * median(found):.3f} | {median(found) / batch_s:.1%} |")


if __name__ == "__main__":
    main()
