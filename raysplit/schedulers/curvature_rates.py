"""Learning rates of a shared top and of every bottom, from the curvature within and between them.

Zheng, Eryilmaz (2024, arXiv 2406.00150) tune the rates of server and clients separately, under Lipschitz gradients.
With L = sum_m L_m the Hessian is an arrowhead: a bottom is coupled with the top only. Let S bound the top's own block,
B_m that of bottom m, and A_m the block between both (spectral norms). For any c_m > 0

    D_s = S + sum_m c_m A_m        D_m = B_m + A_m / c_m

make diag(D_s, D_m) an upper bound of the Hessian, because |2 <u, A v>| <= A (c |u|^2 + |v|^2 / c). Hence the steps
1 / D_s of the top, on the gradient of the sum, and 1 / D_m of the bottoms do not increase L on full batches as long as
the norms bound the curvature all along the step. Norms measured at single points, as here, do so usually, not always.
The blocks alone, without A_m, are not safe; one rate for all parts costs up to max(D) / D_m times as many steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """Spectral norms of the blocks of the Hessian of the sum of the owners' losses.

    Attributes:
        server: S, the norm of the top's block.
        owners: B_m, the norm of each bottom's block, by owner.
        cross: A_m, the norm of the block between the top and each bottom, by owner.
    """

    server: float
    owners: Mapping[str, float]
    cross: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.owners.keys() != self.cross.keys() or not self.owners:
            raise ValueError(
                f"owners and cross must have the same keys, at least one, got {sorted(self.owners)} and "
                f"{sorted(self.cross)}"
            )
        if min(self.server, *self.owners.values(), *self.cross.values()) < 0:
            raise ValueError(f"spectral norms are at least 0, got {self}")

    def raised_to(self, other: Curvature) -> Curvature:
        """Return the larger norm of both in every block."""
        names = [*self.owners, *(name for name in other.owners if name not in self.owners)]
        return Curvature(
            server=max(self.server, other.server),
            owners={n: max(self.owners.get(n, 0.0), other.owners.get(n, 0.0)) for n in names},
            cross={n: max(self.cross.get(n, 0.0), other.cross.get(n, 0.0)) for n in names},
        )


@dataclass(frozen=True, kw_only=True)
class BlockConstants:
    """The constants D_s of the top (``server``) and D_m of the bottoms, by owner."""

    server: float
    owners: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class BlockRates:
    """The learning rates of the top, for the gradient of the *sum* of the owners' losses, and of the bottoms."""

    server: float
    owners: Mapping[str, float]

    def server_on_mean(self, num_present: int) -> float:
        """Return the top's rate for the gradient of the mean over ``num_present`` owners, which gives the same step."""
        return self.server * num_present


def block_constants(curvature: Curvature, weights: Mapping[str, float] | None = None) -> BlockConstants:
    """Compute D_s and D_m; ``weights`` are the c_m > 0, by default 1."""
    c = dict.fromkeys(curvature.owners, 1.0) | dict(weights or {})
    if min(c.values()) <= 0:
        raise ValueError(f"the weights c_m must be above 0, got {c}")
    return BlockConstants(
        server=curvature.server + sum(c[name] * a for name, a in curvature.cross.items()),
        owners={name: b + curvature.cross[name] / c[name] for name, b in curvature.owners.items()},
    )


def block_rates(curvature: Curvature, weights: Mapping[str, float] | None = None) -> BlockRates:
    """Compute 1 / D_s and 1 / D_m. Raises ``ValueError`` for a block without curvature, which determines no rate."""
    constants = block_constants(curvature, weights)
    flat = [name for name, d in (("the top", constants.server), *constants.owners.items()) if d == 0]
    if flat:
        raise ValueError(
            f"{flat[0]} has no curvature (its gradient is constant), so no rate follows from it; give learning_rates"
        )
    return BlockRates(server=1 / constants.server, owners={name: 1 / d for name, d in constants.owners.items()})
