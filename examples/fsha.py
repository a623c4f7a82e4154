"""Feature-space hijacking: the rehearsal of a server that trains something else, to try one's own detection on.

Pasquini, Ateniese, Bernaschi, "Unleashing the tiger: inference attacks on split learning" (2021, arXiv 2012.02670). The
server returns gradients of a critic, which pull the owner's smashed data towards those of a pilot whose inverse the
server knows: it decodes the owner's samples without any of the owner's weights. The owner's task learns nothing, and
the losses that it is told are made up.

The rehearsal has the owner's samples at hand, and reports in every round how well the server reconstructs them. It is
an algorithm by import path, which no configuration names by accident:

    cd examples && raysplit train fsha_digits.yaml
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.records import RoundContext, StepId
from raysplit.algorithms.setting import SERVER, RoundReport
from raysplit.algorithms.splitnn import SplitNN
from raysplit.attacks.networks import Batches, applied, built, critic, decoder
from raysplit.cluster.contract import PartySpec
from raysplit.models.frozen import load_trained
from raysplit.privacy.measures.pictures import nmse, ssim
from raysplit.seeding import torch_generator

_SHOWN = 64  # samples of an owner on which the rehearsal measures


class HijackingOptions(SplitNN.options_type):
    """Options of the attack; it is very sensitive to the scale of its gradients against the owner's rule."""

    scale: float = Field(default=1.0, gt=0)
    """Factor on the gradient of the critic that the owner gets: try 1, 0.1 and 0.01."""
    penalty: float = Field(default=10.0, gt=0)
    """Weight of the critic's gradient penalty (WGAN-GP)."""
    rate: float = Field(default=1e-3, gt=0)
    """Learning rate of the server's networks."""


class HijackingServer(ComputeNode):
    """A server that answers with the gradient of its critic.

    Args:
        public: samples [m, ...] of the server, as a model gets them.
        unit: low and span by which such samples are brought to the unit range.
    """

    def __init__(self, *, public: Tensor, unit: tuple[float, float], options: HijackingOptions, **given: Any) -> None:
        super().__init__(**given)
        spec, cuts, seed = self._recipe.spec, self._recipe.cuts, self._recipe.seed
        (self._pilot, _) = replace(spec, seed=spec.seed + 1).parts(cuts)
        self._public, self._low, self._span, self._options = public, *unit, options
        z = self._pilot(public[:1])
        self._decoder = built(lambda: decoder(tuple(z.shape[1:]), tuple(public.shape[1:])), seed, "hijack", "decoder")
        self._critic = built(lambda: critic(tuple(z.shape[1:])), seed, "hijack", "critic")
        front = [*self._pilot.parameters(), *self._decoder.parameters()]
        self._for_front = torch.optim.Adam(front, lr=options.rate)
        self._for_critic = torch.optim.Adam(self._critic.parameters(), lr=options.rate, betas=(0.5, 0.9))
        self._batches = Batches(len(public), 32, seed, "hijack", "batches")
        self._draws = torch_generator(seed, "hijack", "mixes")
        self._steps = 0

    async def loss_gradient(self, step_id: StepId, z: Tensor, y: Tensor) -> tuple[float, Tensor]:
        """Return a made-up loss, and a gradient that pulls ``z`` towards the pilot's smashed data."""
        with self._under_way(step_id):
            at = z.detach().requires_grad_()
            (g,) = torch.autograd.grad(self._critic(at).mean(), at)  # the critic is high on the owner's values
            self._learn(z.detach())
            self._steps += 1
        return 2.3 * 0.999**self._steps, g * self._options.scale

    def _learn(self, z: Tensor) -> None:
        x = self._public[self._batches.next()]
        made = self._pilot(x)
        loss = F.mse_loss(self._decoder(made), (x - self._low) / self._span)
        self._for_front.zero_grad()
        loss.backward()
        self._for_front.step()
        made = made.detach()
        rows = min(len(made), len(z))
        share = torch.rand((rows,) + (1,) * (z.ndim - 1), generator=self._draws)
        mixed = (share * made[:rows] + (1 - share) * z[:rows]).requires_grad_()
        (slope,) = torch.autograd.grad(self._critic(mixed).sum(), mixed, create_graph=True)
        steep = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        loss = self._critic(made).mean() - self._critic(z).mean() + self._options.penalty * steep
        self._for_critic.zero_grad()
        loss.backward()
        self._for_critic.step()

    async def reconstructed(self, z: Tensor) -> Tensor:
        """Return what the server takes the samples behind ``z`` for, in the unit range."""
        return applied(self._decoder, z)

    async def num_steps(self) -> int:
        """Return no steps: the task's part is not trained."""
        return 0


class Hijacking(SplitNN):
    """SplitNN whose server is malicious. Its samples are the test samples of the run."""

    name = "fsha"
    title = "Hijacked SplitNN"
    options_type: ClassVar[type[HijackingOptions]] = HijackingOptions
    can_be_simulated = False

    def parties(self) -> list[PartySpec]:
        own = [party for party in super().parties() if party.name != SERVER]
        server = self.node_party(SERVER, self.recipe(1))
        more = {"public": self._inputs(None), "unit": self._unit(), "options": self.options}
        return [*own, replace(server, build=HijackingServer, arguments={**server.arguments, **more})]

    async def round(self, context: RoundContext) -> RoundReport:
        report = await super().round(context)
        name = context.cohort[0]
        part, _ = self.setting.spec.parts(self.placed_cuts)
        load_trained(part, await self.owner(name).weights())
        x = self._inputs(name)
        with torch.no_grad():
            z = part(x)
        guess = await self.handles[SERVER].reconstructed(z)
        (low, span), mean = self._unit(), self._inputs(None).mean(dim=0)
        truth, mean = (x - low) / span, (mean - low) / span
        figures = {"hijack_ssim": ssim(truth, guess), "hijack_ssim_chance": ssim(truth, mean.expand_as(truth))}
        return replace(report, values={**report.values, **figures, "hijack_nmse": nmse(truth, guess, mean)})

    def _inputs(self, owner: str | None) -> Tensor:
        """Return some samples of an owner, or those of the server, as the model gets them."""
        data = next(iter(self.setting.owners.values())) if owner is None else self.setting.owners[owner]
        held = [data.shard.take(range(min(_SHOWN, len(data.shard))))]
        if owner is None:
            held = [party.arguments["samples"] for party in self.setting.evaluators]
        return torch.cat([data.eval_transform(samples.x, torch.Generator()) for samples in held])

    def _unit(self) -> tuple[float, float]:
        x = self._inputs(None)
        return float(x.min()), float(x.max() - x.min())
