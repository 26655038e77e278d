"""How much the kernels of a backbone's attention resemble each other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lisa_mm.models import LiSA

from .inspection import (
    attentions_of,
    kernels_of,
    of_one_size,
    record,
    spread_positions,
    with_kernels,
)

# Of kernels that differ from their mean by less than this share there is nothing to correlate but
# rounding errors.
LEAST_VARIATION = 1e-4


@dataclass(frozen=True)
class Redundancy:
    """Resemblance of kernels, means over queries and images.

    A kernel is the weights with which a query sees all positions. Two of them
    are compared by their correlation, the cosine after the mean over the
    positions is taken off, without its sign: kernels of opposite signs do the
    same, as what comes after can turn it. The plain cosine is given beside:
    kernels of weights that are never negative resemble each other by that
    alone, and opposite ones cancel in its mean.

    Args:
        layer: Name of the attention in the backbone, ``'stages.2.0'``.
        grid: Its (H, W).
        heads: Its heads G.
        chance: What the two absolute correlations are for kernels of white
            noise on the grid: the fewer positions, the more.
        head_correlation: Mean absolute correlation of all pairs of heads, for
            the same query. Constant kernels, which have none, are left out.
        head_cosine: Mean cosine of all pairs of heads, constant kernels included.
        layer_correlation: Mean absolute correlation of all heads with all of
            those of each other layer on the same grid, for the same query.
        layer_cosine: Mean cosine of the same, constant kernels included.
        entropy: Normalised entropy: of the absolute weights as a share of
            their sum, over that of equal weights: 0 for a single position, 1
            for all alike.

    What there is nothing to compare with is None.
    """

    layer: str
    grid: tuple[int, int]
    heads: int
    chance: float | None
    head_correlation: float | None
    head_cosine: float | None
    layer_correlation: float | None
    layer_cosine: float | None
    entropy: float | None


def kernel_redundancy(
    backbone: LiSA, images: Iterable[Tensor], num_positions: int = 16
) -> list[Redundancy]:
    """Measure how much the kernels of a backbone resemble each other.

    Args:
        backbone: A backbone whose attention modules have ``kernels``.
        images: Preprocessed images, (B, C, H, W) each; of one size.
        num_positions: Queries per image, spread evenly over the grid. Defaults
            to 16.

    Returns:
        list[Redundancy]: One for each layer that has kernels.

    Raises:
        ValueError: If no attention of the backbone has kernels, there are no
            images, or they are not of one size.

    Example:
        >>> import torch
        >>> from lisa_mm.analysis import kernel_redundancy
        >>> from lisa_mm.models import LiSA
        >>> backbone = LiSA(arch='tiny').eval()
        >>> for layer in kernel_redundancy(backbone, [torch.randn(1, 3, 64, 64)])[:2]:
        ...     print(layer.layer, layer.grid, layer.heads)
        stages.0.0 (16, 16) 4
        stages.0.1 (16, 16) 4
    """
    modules = with_kernels(attentions_of(backbone))
    totals, grids, heads = {}, {}, {}
    for batch in of_one_size(images):
        kernels = _kernels(backbone, batch, modules, num_positions)
        for name, (grid, kernel) in kernels.items():
            grids[name], heads[name] = grid, kernel.shape[2]
        for key, (value, number) in _measure(kernels).items():
            total = totals.setdefault(key, [0.0, 0])
            total[0] += value
            total[1] += number
    if not totals:
        raise ValueError('there are no images to measure kernels on')

    def mean(*key: str) -> float | None:
        value, number = totals.get(key, (0, 0))
        return value / number if number else None

    measures = [field.name for field in fields(Redundancy)][4:]
    return [
        Redundancy(
            name,
            grids[name],
            heads[name],
            _correlation_by_chance(math.prod(grids[name])),
            *(mean(name, what) for what in measures),
        )
        for name in modules
    ]


def _correlation_by_chance(positions: int) -> float | None:
    """Return the mean absolute cosine of random directions with a dimension less than positions."""
    if positions < 2:
        return None
    logarithm = math.lgamma((positions - 1) / 2) - math.lgamma(positions / 2)
    return math.exp(logarithm) / math.sqrt(math.pi)


@torch.no_grad()
def _kernels(
    backbone: LiSA, images: Tensor, modules: dict[str, nn.Module], num_positions: int
) -> dict[str, tuple[tuple[int, int], Tensor]]:
    """Return the grid and the kernels (B, K, G, N) of each layer."""
    found = {}
    for name, (x, _) in record(backbone, images, modules).items():
        grid = tuple(x.shape[-2:])
        positions = spread_positions(grid, num_positions).to(x.device)
        kernels = kernels_of(modules[name], x, positions).flatten(-2).float()
        found[name] = grid, kernels.transpose(1, 2)
    return found


def _measure(
    kernels: dict[str, tuple[tuple[int, int], Tensor]],
) -> dict[tuple[str, str], tuple[float, int]]:
    """Return sums and their numbers of terms, by layer and measure."""
    found = {}
    units = {name: (_centred(k), F.normalize(k, dim=-1)) for name, (_, k) in kernels.items()}
    for first, (grid, kernel) in kernels.items():
        others = [name for name in kernels if name != first and kernels[name][0] == grid]
        for what, names in (('head', [first]), ('layer', others)):
            for i, measure in enumerate(('correlation', 'cosine')):
                sums = [
                    _sum_of_products(units[first][i], units[name][i], i == 0, name == first)
                    for name in names
                ]
                found[first, f'{what}_{measure}'] = tuple(map(sum, zip(*sums))) or (0.0, 0)
        positions = kernel.shape[-1]
        if positions > 1:
            shares = kernel.abs() / kernel.abs().sum(-1, keepdim=True).clamp_min(1e-30)
            entropies = torch.special.entr(shares).sum(-1) / math.log(positions)
            found[first, 'entropy'] = entropies.sum().item(), entropies.numel()
    return found


def _centred(kernels: Tensor) -> Tensor:
    """Return kernels (B, K, G, N) without their mean, of unit norm; constant ones are zero."""
    centred = kernels - kernels.mean(-1, keepdim=True)
    norm = centred.norm(dim=-1, keepdim=True)
    constant = norm <= LEAST_VARIATION * kernels.norm(dim=-1, keepdim=True)
    return (centred / norm.clamp_min(1e-30)).masked_fill(constant, 0)


def _sum_of_products(
    first: Tensor, second: Tensor, unsigned: bool, same: bool
) -> tuple[float, int]:
    """Sum the products of all heads with all heads, but for themselves; zeros do not count."""
    products = first @ second.transpose(-1, -2)  # (B, K, G, G)
    pairs = first.any(-1)[..., :, None] & second.any(-1)[..., None, :]
    if same:
        pairs = pairs & ~torch.eye(pairs.shape[-1], dtype=torch.bool, device=pairs.device)
    chosen = products[pairs]
    return (chosen.abs() if unsigned else chosen).double().sum().item(), chosen.numel()
