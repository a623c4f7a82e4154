"""What a model, data and options tell together is told before anything starts, with the way out."""

from __future__ import annotations

from typing import Any

import pytest
from combinations import KINDS, NUM_OWNERS, outcome
from support import distance, same

from raysplit.algorithms.mas.baselines import AllInOneOptions
from raysplit.algorithms.mas.mas import MASOptions
from raysplit.runs.result import Result


def refused(kind: str, algorithm: dict[str, Any], **more: dict[str, Any]) -> str:
    found = run(kind, algorithm, **more)
    assert isinstance(found, str)
    return found


def run(kind: str, algorithm: dict[str, Any], **more: dict[str, Any]) -> Result | str:
    tree: dict[str, dict[str, Any]] = {
        "partition": {"name": "iid", "num_owners": NUM_OWNERS},
        "algorithm": algorithm,
        "cluster": {"kind": "local"},
    }
    for other in (KINDS[kind], {"training": {"rounds": 2, "batch_size": 8}}, more):
        tree |= {section: {**tree.get(section, {}), **values} for section, values in other.items()}
    return outcome(tree)


@pytest.mark.parametrize(
    ("kind", "algorithm", "message"),
    [
        (
            "dense tasks",
            {"name": "hoa", "num_groups": 3},
            "algorithm.num_groups is 3, and the tasks to divide are s, d",
        ),
        ("dense tasks", {"name": "tag", "num_groups": 3}, "give at most 2"),
        (
            "dense tasks",
            {"name": "mtsl"},
            "stays whole, and the algorithm cuts it at 1; set algorithm.name to one that",
        ),
        (
            "several labels",
            {"name": "splitnn", "cut": 1},
            "set algorithm.cut to 0, or algorithm.name to one that does not",
        ),
        ("several labels", {"name": "mtsl", "bottoms": [{"model": "mlp"}]}, "leave bottoms out"),
        ("several labels", {"name": "fedem"}, "set algorithm.name to another, such as fedavg or local"),
        ("several labels", {"name": "mtl_split", "num_nodes": 3}, "of the tasks shape, color; give at most 2"),
        (
            "dense tasks",
            {"name": "mas", "merged_rounds": 1, "new_tasks": {"d": 9}},
            "does not end before the last of 2",
        ),
        ("one label", {"name": "mtsl", "cut": 3, "learning_rates": "auto"}, "with the cut 3 the top has no weights"),
    ],
)
def test_it_names_the_setting_and_the_way_out(kind: str, algorithm: dict[str, Any], message: str) -> None:
    """HOA was told of three groups for two tasks after the first of its trainings; SplitNN of a cut that a classifier
    does not have, and MTSL of a top whose curvature cannot be measured, after the deployment."""
    alone = {"partition": {"num_owners": 1}} if algorithm["name"] == "mtl_split" else {}
    assert message in refused(kind, algorithm, **alone)


def test_a_domain_is_one_of_pictures() -> None:
    """A permutation of the pixels of vectors ended with "Dimension out of range"."""
    vectors = {"data": {"name": "random", "dim": 6}, "owners": {"domain": "permutation"}}
    text = outcome({**vectors, "algorithm": {"name": "fedavg"}, "cluster": {"kind": "local"}, "model": {"name": "mlp"}})
    assert "owners.domain permutation maps pictures" in str(text)
    assert "has the shape (6,); leave it out" in str(text)


def test_options_without_effect_beside_others_are_named() -> None:
    """Nobody told that MAS does not look at its window where the number of merged rounds is given."""
    assert MASOptions(window=3, trial_rounds=4).idle() == {
        "window": "merged_rounds is a number",
        "trial_rounds": "there are no new_tasks",
    }
    assert MASOptions(merged_rounds="auto", window=3, new_tasks={"d": 3}, trial_rounds=4).idle() == {}
    assert AllInOneOptions(proximal_mu=1.0).idle() == {"proximal_mu": "method is fedavg"}
    assert AllInOneOptions(method="fedprox", proximal_mu=1.0).idle() == {}


def test_a_loss_of_dense_tasks_is_answered_with_methods_that_take_it() -> None:
    """FedEM asked for cross_entropy, and then the data asked for task_sum."""
    text = refused("dense tasks", {"name": "fedem"})
    assert "set training.loss to cross_entropy if the data fit it, or use one of centralised, local, fedavg" in text


def test_without_an_accuracy_the_other_metric_is_named() -> None:
    told = {"metric": "set evaluation.metric to loss", "target_accuracy": "use evaluation.target_loss"}
    for key, value in (("metric", "accuracy"), ("target_accuracy", 0.5)):
        assert told[key] in refused("dense tasks", {"name": "fedavg"}, evaluation={key: value})


def test_with_everything_at_the_owners_two_servers_train_as_one() -> None:
    """Each of two servers joins the gradients of both, and where all weights are at the owners there are none:
    "torch.cat(): expected a non-empty list of Tensors"."""
    names = ("minibatch_sfl", "splitfed_v1")
    one, two = ([whole({"name": name, "cut": 3, "num_servers": number}) for name in names] for number in (1, 2))
    assert distance(one[0], two[0]) < 1e-6  # the rows are joined in another order
    assert same(one[1], two[1])
    assert same(two[1], whole({"name": "fedavg"}))


def whole(algorithm: dict[str, Any]) -> Result:
    found = run("one label", algorithm)
    assert isinstance(found, Result), found
    return found
