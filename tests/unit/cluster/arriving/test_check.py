"""What is checked of a value that arrives, and the words in which a bad one is told."""

from __future__ import annotations

import pickle
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from raysplit.actors.expecting.forms import crossing
from raysplit.actors.parts.gradient_record import ReceivedGradients
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import NonFiniteLoss, StepId
from raysplit.cluster.arriving.check import Due, due_arguments, is_usual, require
from raysplit.cluster.arriving.forms import ANY, BadValue, Expected, Form, NonFiniteValue, norm_of, not_finite
from raysplit.cluster.arriving.verbs import VERBS, of_own
from raysplit.cluster.links.coded import Coded, Header
from raysplit.cluster.links.coding_link import CodingLink
from raysplit.cluster.links.kinds import Crossing
from raysplit.cluster.links.link import Link
from raysplit.config.run import check_config
from raysplit.models.spec import ModelSpec

AT = StepId(owner="owner-0", round=0, step=1)
Z = torch.ones(4, 3)


class Party:
    def __init__(self, **expected: Any) -> None:
        self._expected = Expected(**expected)

    def expects(self, content: str, given: Any) -> Expected:
        return self._expected


def told(content: str, value: Any, link: Link | None = None, **expected: Any) -> str:
    """Return what is told of a value that server sends owner-0; empty where it is taken."""
    link = link or Link()
    link.parties["owner-0"] = Party(**expected)
    try:
        link.arriving("server", "owner-0", value, 8, due=Due(content, AT))
    except BadValue as bad:
        return str(bad).partition("; look at")[0]
    return ""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Z.clone(), ""),
        (torch.full((4, 3), float("nan")), "server sent owner-0 a gradient with NaN in round 1, step 2"),
        (Z * float("inf"), "server sent owner-0 a gradient with infinite values in round 1, step 2"),
        (torch.ones(3, 3), "server sent owner-0 a gradient of shape [3, 3], and it expects [4, 3] in round 1, step 2"),
        (Z.double(), "server sent owner-0 a gradient in float64, and it expects float32 in round 1, step 2"),
        (None, "server sent owner-0 None for a gradient in round 1, step 2"),
        ([Z], "server sent owner-0 a list for a gradient in round 1, step 2"),
        ("\x1b[2J", "server sent owner-0 the text '\\x1b[2J' for a gradient in round 1, step 2"),
        ((Z, Z), "server sent owner-0 2 tensors for a gradient, and it expects 1 in round 1, step 2"),
        ((), "server sent owner-0 a tuple of 0 for a gradient in round 1, step 2"),
    ],
)
def test_a_gradient_has_the_form_of_what_it_is_of(value: Any, words: str) -> None:
    """A gradient of NaN was told as the owner's loss; one in double was taken, and cost twice the bytes."""
    assert told("gradients", value, tensors=(Z,)) == words


_HUGE = torch.full((4, 3), torch.finfo(torch.float32).max)
_FORMS = (
    [Form((-1, 3), torch.float32)],
    [Form((-2, 3), torch.float32)],
    [Form((4, 3), torch.float32, may_be_infinite=True)],
    [Z],
    [Z, Z],
    [],
    None,
)
_VALUES = (
    Z,
    Z * 0,
    _HUGE,
    Z * float("inf"),
    Z * float("nan"),
    Z[:0],
    Z[:2],
    Z.double(),
    Z.half(),
    Z.to_sparse(),
    Z.T,
    torch.ones(3, 4).T,
    torch.ones(()),
    torch.zeros(1, 1).expand(4, 3),
    torch.nn.Parameter(Z),
    (Z,),
    (Z, Z),
    [Z],
    None,
    *(torch.tensor(y, dtype=torch.int32) for y in ([0, 1, 2, 2], [0, 1, 2, 3], [-1, 0, 0, 0], [-100, 0, 0, 0], [])),
)
_LOSSES = (0.5, 0.0, -5.0, float("nan"), float("inf"), 1, True, "0.1", None)


def test_what_is_accepted_at_once_all_checks_accept() -> None:
    """The usual values of a step are looked at in one place; nothing may pass there that is refused otherwise."""
    num_usual = 0
    pairs = [("loss+gradients", (loss, value)) for loss in _LOSSES for value in _VALUES]
    for content, value in [*((c, v) for c in ("smashed", "gradients", "labels") for v in _VALUES), *pairs]:
        for forms, rows, most_rows, classes in product(_FORMS, (None, 0, 2, 4), (None, 3), ({}, {"": 3})):
            heard: list[list[Any]] = [[], []]
            wanted = [
                Expected(forms, rows, most_rows, num_classes=classes, loss="mse", tell=_into(notes), told=notes.append)
                for notes in heard
            ]
            due = Due(content, AT)
            if is_usual(value, due, "server", wanted[0]):
                num_usual += 1
                require(value, due, "server", "owner-0", wanted[1])
            assert sorted(heard[0], key=str) == sorted(heard[1], key=str)  # nothing is told of others yet
    assert num_usual > 200


def _into(notes: list[Any]) -> Any:
    return lambda *told: notes.append(told)


def test_numbers_of_any_size_are_told_from_those_that_are_not_finite() -> None:
    """Finite squares may overflow, and half precision is summed in a wider type."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        largest = torch.full((5,), torch.finfo(dtype).max, dtype=dtype)
        assert not_finite(largest) is None
        assert not_finite(torch.cat([largest, torch.tensor([float("inf")], dtype=dtype)])) == "infinite values"
        assert not_finite(torch.cat([largest, torch.tensor([float("nan")], dtype=dtype)])) == "NaN"
    assert not_finite(torch.tensor([1, 2])) is None
    assert not_finite(torch.tensor([complex(0, float("nan"))])) == "NaN"
    assert not_finite(torch.tensor([-float("inf")]), may_be_infinite=True) is None
    assert norm_of(torch.tensor([3.0, 4.0])) == 5.0


def test_one_number_in_memory_is_looked_at_once() -> None:
    """A shape of a million millions costs a sender four bytes, and would cost the receiver a day."""
    huge = torch.tensor(float("nan")).expand(10**6, 10**6)
    assert not_finite(huge) == "NaN"


def test_what_a_header_announces_is_checked_before_it_is_decoded() -> None:
    """A few bytes of zeros that are packed announce gigabytes."""
    links = check_config({"model": {"name": "mlp"}, "data": {"name": "random"}, "links": {"gradients": "zstd"}}).links
    link = CodingLink(links.link_rules())
    codec = links.link_rules().codec("server", "gradients")
    assert codec is not None
    bomb = Coded(Header(codec.number, "gradients", torch.float32, (2**31, 3), 9).packed(), [torch.zeros(9).numpy()])
    words = told("gradients", bomb, link, tensors=(Z,))
    assert words == (
        "server sent owner-0 a gradient of shape [2147483648, 3], and it expects [4, 3] in round 1, step 2"
    )
    assert "a message that cannot be decoded" in told("gradients", Coded(b"short", []), link, tensors=(Z,))


def test_rows_are_the_same_in_all_tensors_and_as_many_as_there_may_be() -> None:
    forms = (Form((-1, 3), torch.float32), Form((-2, ANY), torch.float32))
    fitting = (torch.ones(4, 3), torch.ones(8, 5))
    assert told("smashed", fitting, tensors=forms) == ""
    assert "of shape [7, 5], and it expects [8, any]" in told("smashed", (fitting[0], torch.ones(7, 5)), tensors=forms)
    assert "of shape [0, 3], and it expects [B, 3]" in told("smashed", (torch.ones(0, 3), fitting[1]), tensors=forms)
    assert "smashed data of 4 rows, and a batch has at most 3" in told("smashed", fitting, tensors=forms, most_rows=3)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (0.0, ""),
        (1, ""),
        (-5.0, "a loss of -5, and cross_entropy is never negative"),
        (float("nan"), "a loss of nan"),
        ("0.1", "the text '0.1' for a loss"),
        (True, "the number True for a loss"),
        (torch.ones(()), "a Tensor for a loss"),
    ],
)
def test_a_loss_is_a_number_that_can_be(loss: Any, words: str) -> None:
    """A node that answered -5.0 was believed: "loss -5.000", and exit 0."""
    found = told("loss+gradients", (loss, Z), tensors=(Z,), loss="cross_entropy")
    assert found == (words and f"server sent owner-0 {words} in round 1, step 2")
    assert "None for a loss and a gradient" in told("loss+gradients", None)


def test_labels_are_of_the_model_s_classes_and_as_many_as_samples() -> None:
    assert told("labels", torch.tensor([0, 2, -100]), num_classes={"": 3}, rows=3) == ""
    assert "the label 7, and there are 3 classes" in told("labels", torch.tensor([0, 7]), num_classes={"": 3})
    assert "the label -1, and there are 3 classes" in told("labels", torch.tensor([0, -1]), num_classes={"": 3})
    assert "labels for 2 samples beside smashed data of 3" in told("labels", torch.tensor([0, 1]), rows=3)
    assert told("labels", torch.tensor([0.5, float("nan")])) == ""  # no target


def test_weights_have_the_model_s_names_and_forms() -> None:
    model = {"w": Form((2,), torch.float32), "mask": Form((1,), torch.float32)}
    expected: dict[str, Any] = {"weights": model, "required": ("w",), "infinite": ("mask",)}
    good: dict[Any, Tensor] = {"w": torch.ones(2), "mask": torch.tensor([-float("inf")])}
    assert told("weights", good, **expected) == ""
    assert "weights without 'w'" in told("weights", {}, **expected)
    assert "weights with 'x', which the model has not" in told("weights", good | {"x": torch.ones(1)}, **expected)
    assert "whose 'w' has shape [3], and it expects [2]" in told("weights", {"w": torch.ones(3)}, **expected)
    assert "with NaN in 'w'" in told("weights", {"w": torch.tensor([1, float("nan")])}, **expected)


def test_the_error_says_who_and_where_and_survives_a_process() -> None:
    """Divergence is still a `NonFiniteLoss` for those who catch it."""
    error = NonFiniteValue("server", "owner-0", "a gradient with NaN", 0, 1)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert isinstance(copy, BadValue)
    assert isinstance(copy, NonFiniteLoss)
    assert (copy.owner, copy.round, copy.step) == ("server", 0, 1)
    assert str(error).endswith("look at the program of server, or lower the learning rate")
    assert "in round" not in str(BadValue("server", "evaluator", "weights with NaN"))


def test_verbs_of_one_s_own_are_checked_for_finite_numbers() -> None:
    holds = of_own(Crossing(parameters=(("step_id", "other"), ("z", "smashed")), answer="gradients"))
    assert (holds.contents, holds.answer) == ({"z": "tensors"}, "tensors")
    assert "tensors with NaN" in told("tensors", {"a": [torch.tensor([float("nan")])]})
    assert told("tensors", {"a": ["text", 1, None, Z]}) == ""


def test_the_content_of_each_argument_of_a_call() -> None:
    dues = due_arguments(VERBS["submit"], ("context", "owner-0", {}, {}), {"meeting": 1})
    assert [due and due.content for due in dues] == [None, None, "weights", "weights", None]
    assert due_arguments(None, (1,), {}) == ()


def test_the_forms_at_a_cut() -> None:
    """Found by examples of two and three rows."""
    spec = ModelSpec(name="cnn8", input_shape=(1, 8, 8), num_classes=10, seed=0)
    (form,) = crossing(PartRecipe(spec=spec, cuts=(1,), index=1))
    z = spec.parts((1,))[0](torch.zeros(5, 1, 8, 8))
    assert form == Form((-1, *z.shape[1:]), torch.float32)


def test_a_gradient_out_of_all_proportion_is_remembered() -> None:
    """One of 1e12 is finite; the loss after it was no number, and the owner was dropped for it."""
    received = ReceivedGradients()
    received.note("server", AT, 0.5)
    assert received.out_of_proportion() is None
    received.note("server", StepId(owner="owner-0", round=0, step=7), 1e12)
    assert received.out_of_proportion() == ("server", 7, 1e12)
    steady = ReceivedGradients()
    steady.note("server", AT, 1e7)
    steady.note("server", AT, 2e7)
    assert steady.out_of_proportion() is None
