"""Strategies for configurations: whole trees, YAML text, and values of ``--set``."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from raysplit.algorithms import ALGORITHMS
from raysplit.config.run import RunConfig
from strategies.values import anything, scalars, texts, values

EXAMPLES = Path(__file__).parents[2] / "examples"
SECTIONS: dict[str, Any] = {key: field.annotation for key, field in RunConfig.model_fields.items()}
OPTIONS = sorted(
    {key for method in ALGORITHMS.values() for key in method.options_type.model_fields}
    | {"num_classes", "num_samples", "dim", "input_shape", "seed", "hidden", "alpha", "betas", "momentum", "num_owners"}
)
NAMES = [
    *("cnn8", "mlp", "resnet18_cifar", "mas", "multi_task", "random", "digits", "rooms", "image_table", "medic_like"),
    *("faces_like", "shapes3d", "dsprites", "taskonomy", "shards", "MNIST", "CIFAR10", "ImageFolder", "a.npz"),
    *("iid", "dirichlet", "pathological", "shard", "noniid_ratio", "quantity", "natural_id", "main_label"),
    *ALGORITHMS,
    *("sgd", "adam", "lbfgs"),
]


def written() -> list[dict[str, Any]]:
    """Return the configurations of the examples, and the defaults."""
    found = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(EXAMPLES.glob("*.yaml"))]
    return [RunConfig().model_dump(mode="json"), *(tree for tree in found if set(tree) <= set(SECTIONS))]


WRITTEN = written()


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of every value of a tree."""
    found = [at] if at else []
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        found += places(tree[key], (*at, key))
    return found


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """A configuration that somebody wrote, with some values, keys or types changed."""
    tree = copy.deepcopy(draw(st.sampled_from(WRITTEN)))
    found = places(tree)
    for _ in range(draw(st.integers(1, 4))):
        *above, last = draw(st.sampled_from(found))
        what, value, key = draw(st.integers(0, 9)), draw(anything | st.sampled_from(NAMES)), draw(texts)
        node: Any = tree
        for step in above:
            node = node.get(step) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            continue
        if what < 6:
            node[last] = value
        elif what == 6:
            node.pop(last, None)
        elif what == 7:
            node[draw(st.sampled_from([key, *OPTIONS]))] = value
        elif what == 8:
            node[key] = node.pop(last, None)
        else:
            node.update({f"{last}{i}": i for i in range(draw(st.sampled_from([3, 30, 3_000])))})
    return tree


def section(key: str) -> st.SearchStrategy[Any]:
    """A section of mostly valid keys, so that values are reached and not only keys."""
    fields = list(getattr(SECTIONS[key], "model_fields", {}))
    if not fields:
        return values
    keys = st.sampled_from([*fields, *OPTIONS]) | texts
    named = st.fixed_dictionaries({"name": st.sampled_from(NAMES)}) if "name" in fields else st.just({})
    rest = st.dictionaries(keys, values, max_size=4)
    return values | rest | st.builds(lambda one, other: {**one, **other}, rest, named)


sections = st.fixed_dictionaries({}, optional={key: section(key) for key in SECTIONS})
trees = st.one_of(changed(), changed(), sections, anything)
"""Configurations as plain data."""


@st.composite
def yaml_texts(draw: st.DrawFn) -> str:
    """YAML as somebody wrote it, with characters, lines and pieces changed; or any characters."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.text(alphabet="ab:[]{}&*!?|>-#%@'\"\\=0123456789._ \n\t", max_size=80))
    text = yaml.safe_dump(draw(st.sampled_from(WRITTEN)), sort_keys=False)
    for _ in range(draw(st.integers(1, 4))):
        at, cut = draw(st.integers(0, len(text))), draw(st.sampled_from([0, 0, 1, 3, 20, len(text)]))
        piece = draw(st.sampled_from(PIECES) | st.text(max_size=3))
        text = text[:at] + piece + text[at + cut :]
    return text


PIECES = [
    *(
        "",
        "\n",
        ": ",
        "- ",
        "  ",
        "\t",
        "[",
        "]",
        "{",
        "}",
        "'",
        '"',
        "&a ",
        "*a",
        "<<: *a\n",
        "!!int ",
        "!!set ",
        "? ",
    ),
    *(
        "!!python/object:os.system ",
        "%YAML 1.1\n",
        "---\n",
        "...\n",
        "\ufeff",
        "\0",
        "\x85",
        "5e-4",
        ".inf",
        "0o8",
        "0x",
    ),
    *("9" * 5_000, "a" * 5_000, "[" * 200, "{a: " * 200, "- " * 200, "1e999", "\n" * 300, "# " * 500, "| \n", ">-\n"),
    "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("jklmnopq", "klmnopqr", strict=True)),
]


@st.composite
def overrides(draw: st.DrawFn) -> str:
    """A text of ``--set``."""
    keys = [".".join(str(key) for key in place) for place in places(WRITTEN[0])]
    key = draw(st.sampled_from(keys) | st.sampled_from(keys).map(lambda key: f"{key}.x") | texts)
    if draw(st.integers(0, 19)) == 0:
        key = f"{key}." * draw(st.sampled_from([2, 500, 5_000])) + "x"
    value = draw(texts | scalars.map(_text) | values.map(_text) | st.sampled_from(PIECES))
    return draw(st.sampled_from(["{}={}", "{}={}", "{}={}", "{}{}", "={}{}"])).format(key, value)


def _text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # whole numbers of some thousand digits
        return "9" * 5_000
