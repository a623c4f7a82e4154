"""Learning rates of a shared top and of every bottom from the curvature between and within them.

Zheng, Eryilmaz (2024, arXiv 2406.00150) tune the rates of server and clients apart, under Lipschitz gradients. With
L = sum_m L_m the Hessian is an arrowhead: a bottom is coupled with the top only. Let S bound the top's own block, B_m
that of bottom m, and A_m the block between both (spectral norms). For any c_m > 0

    D_s = S + sum_m c_m A_m        D_m = B_m + A_m / c_m

make diag(D_s, D_m) an upper bound of the Hessian, because |2 <u, A v>| <= A (c |u|^2 + |v|^2 / c). Hence the steps
1 / D_s of the top, on the gradient of the sum, and 1 / D_m of the bottoms never raise L on full batches. The blocks
alone, without A_m, are not safe; one rate for all costs up to max(D) / D_m more steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """Spectral norms of the blocks of the Hessian of the sum of the owners' losses.

    Attributes:
        server: S, of the top's block.
        owners: B_m, by owner.
        cross: A_m, of the block between the top and each bottom.
    """

    server: float
    owners: Mapping[str, float]
    cross: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.owners.keys() != self.cross.keys() or not self.owners:
            raise ValueError(f"curvature of the owners {sorted(self.owners)} and across to {sorted(self.cross)}")
        if min(self.server, *self.owners.values(), *self.cross.values()) < 0:
            raise ValueError(f"spectral norms are at least 0, got {self}")

    def raised_to(self, other: Curvature) -> Curvature:
        """The larger of both in every block: what has been seen so far."""
        names = [*self.owners, *(name for name in other.owners if name not in self.owners)]
        return Curvature(
            server=max(self.server, other.server),
            owners={n: max(self.owners.get(n, 0.0), other.owners.get(n, 0.0)) for n in names},
            cross={n: max(self.cross.get(n, 0.0), other.cross.get(n, 0.0)) for n in names},
        )


@dataclass(frozen=True, kw_only=True)
class BlockConstants:
    """D_s and, by owner, D_m."""

    server: float
    owners: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class BlockRates:
    """The top's rate, for the gradient of the *sum* of the owners' losses, and every bottom's."""

    server: float
    owners: Mapping[str, float]

    def server_on_mean(self, num_present: int) -> float:
        """The top's rate for the gradient of the mean over ``num_present`` owners: the same step."""
        return self.server * num_present


def block_constants(curvature: Curvature, weights: Mapping[str, float] | None = None) -> BlockConstants:
    """D_s and D_m; ``weights`` are the c_m > 0, 1 where none is given."""
    c = dict.fromkeys(curvature.owners, 1.0) | dict(weights or {})
    if min(c.values()) <= 0:
        raise ValueError(f"the weights c_m must be above 0, got {c}")
    return BlockConstants(
        server=curvature.server + sum(c[name] * a for name, a in curvature.cross.items()),
        owners={name: b + curvature.cross[name] / c[name] for name, b in curvature.owners.items()},
    )


def block_rates(curvature: Curvature, weights: Mapping[str, float] | None = None) -> BlockRates:
    """1 / D_s and 1 / D_m. Raises ``ValueError`` where a block has no curvature at all, so that any rate would do."""
    constants = block_constants(curvature, weights)
    flat = [name for name, d in (("the top", constants.server), *constants.owners.items()) if d == 0]
    if flat:
        raise ValueError(
            f"{flat[0]} has no curvature (its gradient is constant), so no rate follows from it; give learning_rates"
        )
    return BlockRates(server=1 / constants.server, owners={name: 1 / d for name, d in constants.owners.items()})
