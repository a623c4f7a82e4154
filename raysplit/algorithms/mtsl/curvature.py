"""The curvature of a cut model, measured at its parts by power iteration with Hessian-vector products.

It gives the learning rates of multi-task split learning (Zheng, Eryilmaz, 2024, arXiv 2406.00150). With s = H(psi, x)
at the cut, J = ds/dpsi at the owner and the loss L(phi, s) at the server, the blocks of the Hessian are

    d2L/dphi2         at the server alone
    d2L/dpsi2 v     = J' L_ss (J v) + d/dpsi <J' L_s, v>
    d2L/dphi dpsi v = L_phi,s (J v)

so one iteration sends a tangent J v of the size of s up and a cotangent of the same size down; neither weights nor
inputs are sent. Dropout is off and batch norm uses its running statistics. Power iteration bounds the spectral norm
from below, and more iterations bring it closer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.data_owner import DataOwner
from raysplit.actors.expecting.parties import SHARED
from raysplit.actors.parts.leaves import Tensors, as_tuple, leaves, untuple
from raysplit.actors.parts.losses import Loss
from raysplit.actors.parts.part import on_device
from raysplit.actors.records import RoundContext, StaleCall, StepId
from raysplit.actors.verbs import NodeHandle
from raysplit.cluster.arriving.forms import Expected
from raysplit.cluster.contract import Given, Promise
from raysplit.data.inputs import Values, feed
from raysplit.schedulers.curvature_rates import Curvature
from raysplit.seeding import torch_generator

TINY = 1e-30


def unit(vector: Tensor) -> Tensor:
    """Scale a vector to length 1; a zero vector stays zero."""
    scaled: Tensor = vector / vector.norm().clamp_min(TINY)
    return scaled


def random_unit(like: Tensor, seed: int, *keys: str | int) -> Tensor:
    """Draw a unit vector [dim] from a keyed stream, with the dtype and device of ``like``."""
    return unit(torch.randn(like.numel(), generator=torch_generator(seed, *keys), dtype=torch.float64).to(like))


def spectral_norm(product: Callable[[Tensor], Tensor], start: Tensor, num_iterations: int) -> float:
    """Bound the largest absolute eigenvalue of a symmetric matrix from below, by power iteration.

    Args:
        product: the product of the matrix with a vector [dim].
        start: the first vector [dim].
    """
    v, norm = unit(start), 0.0
    for _ in range(num_iterations):
        image = product(v)
        norm = float(image.norm())
        v = unit(image)
    return norm


class _Weights:
    """The trainable weights of a module as one vector [dim], and derivatives with respect to them."""

    def __init__(self, module: nn.Module) -> None:
        module.eval()
        self.tensors = [p for p in module.parameters() if p.requires_grad]
        if not self.tensors:
            raise ValueError("a part without trainable weights has no curvature; move the cut so that it has some")

    @property
    def vector(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.tensors])

    def shaped(self, vector: Tensor) -> list[Tensor]:
        pieces = torch.split(vector, [p.numel() for p in self.tensors])
        return [piece.view_as(p) for piece, p in zip(pieces, self.tensors, strict=True)]

    def gradient(self, outputs: Sequence[Tensor], given: Sequence[Tensor] | None = None, *, graph: bool) -> Tensor:
        """Compute d<outputs, given>/dweights [dim]; with ``graph`` it can be differentiated again."""
        return _flat_gradient(outputs, self.tensors, given, graph=graph)


def _flat_gradient(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], given: Sequence[Tensor] | None = None, *, graph: bool
) -> Tensor:
    found = torch.autograd.grad(
        outputs, inputs, given, create_graph=graph, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([g.flatten() for g in found])


class Bottom:
    """The owner's part, linearized at one batch: z [B, ...] at the cut as a function of its weights."""

    def __init__(self, module: nn.Module, x: Values) -> None:
        self._weights = _Weights(module)
        self._outputs = as_tuple(feed(module, x))
        self._cotangents = [torch.zeros_like(z, requires_grad=True) for z in self._outputs]
        self._pulled = self._weights.gradient(self._outputs, self._cotangents, graph=True)

    @property
    def z(self) -> Tensors:
        return untuple(tuple(z.detach() for z in self._outputs))

    @property
    def weights(self) -> Tensor:
        return self._weights.vector

    def push(self, v: Tensor) -> Tensors:
        """Compute J v, the change of z along v, as the derivative of the linear map c -> J' c."""
        return untuple(torch.autograd.grad(self._pulled, self._cotangents, v, retain_graph=True))

    def pull(self, cotangent: Tensors) -> Tensor:
        """Compute J' c."""
        return self._weights.gradient(self._outputs, as_tuple(cotangent), graph=False)

    def bend(self, g: Tensors, v: Tensor) -> Tensor:
        """Compute d/dpsi <J' g, v> at a fixed gradient g, the term from the second derivative of z."""
        pulled = self._weights.gradient(self._outputs, as_tuple(g), graph=True)
        if not pulled.requires_grad:  # z is linear in the weights
            return torch.zeros_like(v)
        return self._weights.gradient([pulled], [v], graph=False)


class Top:
    """The shared part and the loss, linearized at the batches of some owners."""

    def __init__(self, module: nn.Module, zs: Sequence[Tensors], ys: Sequence[Any], loss: Loss, device: str) -> None:
        self._weights = _Weights(module)
        self._inputs = [leaves(z, device) for z in zs]
        self._losses = [loss(module(*z), on_device(y, device)) for z, y in zip(self._inputs, ys, strict=True)]

    def inputs(self, owner: int) -> tuple[Tensor, ...]:
        """Return the smashed data of an owner."""
        return self._inputs[owner]

    def input_gradient(self, owner: int) -> Tensors:
        """Compute dL_m/ds_m."""
        return untuple(torch.autograd.grad(self._losses[owner], self._inputs[owner], retain_graph=True))

    def own_norm(self, start: Tensor, num_iterations: int) -> float:
        """Compute S, the norm of the second derivative of the sum of all losses by the top's weights."""
        gradient = self._weights.gradient(self._losses, graph=True)
        return spectral_norm(lambda v: self._weights.gradient([gradient], [v], graph=False), start, num_iterations)

    @property
    def weights(self) -> Tensor:
        return self._weights.vector

    def products(self, owner: int, u: Tensors, w: Tensors) -> tuple[Tensors, Tensors]:
        """Compute L_ss u and L_s,phi (L_phi,s w), both with the shape of z."""
        z, loss = self._inputs[owner], self._losses[owner]
        by_z = torch.autograd.grad(loss, z, create_graph=True)
        curved = _second(by_z, z, as_tuple(u))
        mixed = self._weights.gradient(by_z, as_tuple(w), graph=False)  # L_phi,s w
        by_weights = self._weights.gradient([loss], graph=True)
        back = _second((by_weights,), z, (mixed,))
        return curved, back


def _second(firsts: Sequence[Tensor], inputs: Sequence[Tensor], given: Sequence[Tensor]) -> Tensors:
    found = torch.autograd.grad(firsts, inputs, given, retain_graph=True, allow_unused=True, materialize_grads=True)
    return untuple(found)


async def measure_bottom(owner: DataOwner, team: Any, context: RoundContext, *, num_iterations: int, seed: int) -> None:
    """Measure B_m and A_m at the owner, on the round's first batch, and report them to the server."""
    server: CurvatureHandle = team.server
    step_id, batch = next(owner.batches(context))
    part = owner.first.part
    bottom = Bottom(part.module, on_device(batch.x, part.device))
    g = _to(await server.linearise(step_id, context.cohort, bottom.z, batch.y, num_iterations), part.device)
    v, w = (
        random_unit(bottom.weights, seed, owner.name, "curvature", context.round, block) for block in ("own", "cross")
    )
    own = cross = 0.0
    for _ in range(num_iterations):
        curved, back = await server.products(step_id, bottom.push(v), bottom.push(w))
        own_image = bottom.pull(_to(curved, part.device)) + bottom.bend(g, v)  # d2L/dpsi2 v
        cross_image = bottom.pull(_to(back, part.device))  # C' C w for C = d2L/dphi dpsi: its norm tends to A_m squared
        own, cross = float(own_image.norm()), float(cross_image.norm()) ** 0.5
        v, w = unit(own_image), unit(cross_image)
    await server.note_curvature(step_id, own, cross)


def _to(values: Tensors, device: str) -> Tensors:
    return untuple(tuple(value.to(device) for value in as_tuple(values)))


class CurvatureHandle(NodeHandle, Protocol):
    """The handle of a `CurvatureNode`."""

    def freeze(self) -> Promise[None]: ...

    def linearise(
        self, step_id: StepId, present: tuple[str, ...], z: Given[Tensors], y: Any, num_iterations: int
    ) -> Promise[Tensors]: ...

    def products(self, step_id: StepId, u: Given[Tensors], w: Given[Tensors]) -> Promise[tuple[Tensors, Tensors]]: ...

    def note_curvature(self, step_id: StepId, own: float, cross: float) -> Promise[None]: ...

    def curvature(self) -> Promise[Curvature]: ...


class CurvatureNode(ComputeNode):
    """A compute node with a shared part whose curvature can be measured at the start of a round."""

    _top: Top
    _order: tuple[str, ...] = ()
    _server_norm = 0.0

    def begin(self, context: RoundContext) -> None:
        super().begin(context)
        self._order = ()
        self._own: dict[str, float] = {}
        self._cross: dict[str, float] = {}

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Return what is expected of a value: tangents are like the smashed data of the owner's batch."""
        owner = getattr(given.get("step_id"), "owner", "")
        if "u" in given and owner in self._order:
            return Expected(tensors=self._top.inputs(self._order.index(owner)))
        return super().expects(content, given)

    async def freeze(self) -> None:
        """From now on, train the shared part no more; it is in evaluation mode, so that its statistics stay too."""
        self._stage(SHARED).part.frozen = True

    async def linearise(
        self, step_id: StepId, present: tuple[str, ...], z: Tensors, y: Any, num_iterations: int
    ) -> Tensors:
        """Submit an owner's batch and return dL_m/ds_m.

        This waits until all ``present`` owners have submitted (a barrier); then the server measures its own block.
        """
        self._check_call(step_id)

        async def work(brought: list[tuple[Tensors, Any]]) -> None:
            stage = self._stage(step_id.owner)
            zs, ys = [z for z, _ in brought], [y for _, y in brought]

            def compute() -> None:
                self._top = Top(stage.part.module, zs, ys, self._loss, stage.part.device)
                start = random_unit(self._top.weights, self._recipe.seed, "server", "curvature", step_id.round)
                self._server_norm = self._top.own_norm(start, num_iterations)

            await stage.compute("loss", step_id, compute)
            self._order = present

        await self._barrier.meet(("curvature", step_id.round, step_id.attempt), step_id.owner, (z, y), present, work)
        return self._top.input_gradient(present.index(step_id.owner))

    async def products(self, step_id: StepId, u: Tensors, w: Tensors) -> tuple[Tensors, Tensors]:
        """Compute the server's side of an iteration for one owner; see `Top.products`."""
        self._check_call(step_id)
        if step_id.owner not in self._order:
            raise StaleCall(f"{self.name} has no batch of {step_id.owner} in this round; call linearise first")
        stage = self._stage(step_id.owner)
        moved = [_to(value, stage.part.device) for value in (u, w)]
        index = self._order.index(step_id.owner)
        found: tuple[Tensors, Tensors] = await stage.compute("loss", step_id, lambda: self._top.products(index, *moved))
        return found

    async def note_curvature(self, step_id: StepId, own: float, cross: float) -> None:
        """Store an owner's B_m and A_m."""
        self._check_call(step_id)
        self._own[step_id.owner], self._cross[step_id.owner] = own, cross

    async def curvature(self) -> Curvature:
        """Return the curvature measured in the present round, and free the memory of the measurement."""
        del self._top
        names = self._order
        return Curvature(
            server=self._server_norm,
            owners={name: self._own[name] for name in names},
            cross={name: self._cross[name] for name in names},
        )
