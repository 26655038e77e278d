"""How much the kernels of a backbone's attention resemble each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from lisa_mm.models import LiSA

from .inspection import attentions_of, record, spread_positions


@dataclass(frozen=True)
class Redundancy:
    """Resemblance of kernels, means over queries and images.

    Of a kernel, the weights with which a query sees all positions, the cosine
    with another one counts signs: kernels of weights that are never negative
    resemble each other by that alone. The correlation, the cosine after the
    mean over the positions is taken off, does not count it.

    Args:
        layer: Name of the attention in the backbone, ``'stages.2.0'``.
        grid: Its (H, W).
        heads: Its heads G.
        head_cosine: Mean cosine of all pairs of heads, for the same query.
        head_correlation: Mean correlation of these.
        layer_cosine: Mean cosine with the kernels of the same head and query in
            all other layers on the same grid.
        layer_correlation: Mean correlation with these.
        entropy: Of the absolute weights as a share of their sum, over that of
            equal weights: 0 for a single position, 1 for all alike.

    What there is nothing to compare with, or a grid of one position, is None.
    """

    layer: str
    grid: tuple[int, int]
    heads: int
    head_cosine: float | None
    head_correlation: float | None
    layer_cosine: float | None
    layer_correlation: float | None
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
    modules = {
        name: module for name, module in attentions_of(backbone).items() if has_kernels(module)
    }
    if not modules:
        kinds = sorted({type(module).__name__ for module in attentions_of(backbone).values()})
        raise ValueError(f'no attention of the backbone has kernels over positions: {kinds}')
    found = {name: [] for name in modules}
    sizes = set()
    for batch in images:
        sizes.add(tuple(batch.shape[-2:]))
        if len(sizes) > 1:
            raise ValueError(f'the images must be of one size, got {sorted(sizes)}')
        for name, measured in _measure(backbone, batch, modules, num_positions).items():
            found[name].append(measured)
    if not sizes:
        raise ValueError('there are no images to measure kernels on')
    return [_mean(name, measured) for name, measured in found.items()]


def has_kernels(module: torch.nn.Module) -> bool:
    """Say whether an attention has kernels over positions."""
    return hasattr(module, 'kernels')


@torch.no_grad()
def _measure(
    backbone: LiSA, images: Tensor, modules: dict[str, torch.nn.Module], num_positions: int
) -> dict[str, Redundancy]:
    """Measure one batch."""
    kernels, grids = {}, {}
    for name, (x, _) in record(backbone, images, modules).items():
        grids[name] = tuple(x.shape[-2:])
        positions = spread_positions(grids[name], num_positions).to(x.device)
        kernels[name] = modules[name].kernels(x, positions).flatten(-2).float()  # (B, G, K, N)
    units = {
        name: (F.normalize(k, dim=-1), F.normalize(k - k.mean(-1, keepdim=True), dim=-1))
        for name, k in kernels.items()
    }
    with_others = {name: [] for name in modules}
    for first, second in combinations(modules, 2):
        if grids[first] == grids[second] and kernels[first].shape == kernels[second].shape:
            pair = [(a * b).sum(-1).mean().item() for a, b in zip(units[first], units[second])]
            with_others[first].append(pair)
            with_others[second].append(pair)
    return {
        name: Redundancy(
            name,
            grids[name],
            kernels[name].shape[1],
            *(_mean_of_pairs(unit) for unit in units[name]),
            *([statistics.mean(values) for values in zip(*with_others[name])] or [None, None]),
            _entropy(kernels[name]),
        )
        for name in modules
    }


def _mean_of_pairs(units: Tensor) -> float | None:
    """Return the mean product of the units (B, G, K, N) of two different heads."""
    heads = units.shape[1]
    if heads == 1:
        return None
    # the square of a sum has all pairs in it twice, and all heads with themselves
    pairs = units.sum(1).square().sum(-1) - units.square().sum((1, -1))
    return (pairs.mean() / (heads * (heads - 1))).item()


def _entropy(kernels: Tensor) -> float | None:
    """Return the mean entropy of kernels (B, G, K, N), relative to log N."""
    positions = kernels.shape[-1]
    if positions == 1:
        return None
    shares = kernels.abs() / kernels.abs().sum(-1, keepdim=True).clamp_min(1e-30)
    return (torch.special.entr(shares).sum(-1).mean() / math.log(positions)).item()


def _mean(name: str, measured: list[Redundancy]) -> Redundancy:
    """Take the mean over batches."""
    means = [
        None if getattr(measured[0], field) is None
        else statistics.mean(getattr(one, field) for one in measured)
        for field in (
            'head_cosine',
            'head_correlation',
            'layer_cosine',
            'layer_correlation',
            'entropy',
        )
    ]  # fmt: skip
    return Redundancy(name, measured[0].grid, measured[0].heads, *means)
