"""Cutting maps into blocks, for local attention."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def count_blocks(grid: tuple[int, int], size: int) -> tuple[int, int]:
    """Return how many blocks cover the rows and the columns of a grid."""
    return tuple(-(-length // size) for length in grid)


def to_blocks(x: Tensor, size: int, halo: int = 0) -> Tensor:
    """Cut maps into square blocks, each with the positions around it.

    Args:
        x: (B, G, c, H, W). It is padded with zeros to full blocks.
        size: Side of a block, in positions.
        halo: Positions around it. Defaults to 0.

    Returns:
        Tensor: Tokens, (G, blocks, B, (size + 2 * halo)^2, c). Samples stand
        behind the blocks so that a bias or mask serves all of them.
    """
    height, width = x.shape[-2:]
    x = F.pad(x, (halo, halo + -width % size, halo, halo + -height % size))
    side = size + 2 * halo
    x = x.unfold(3, side, size).unfold(4, side, size)  # (B, G, c, a, b, side, side)
    return x.permute(1, 3, 4, 0, 5, 6, 2).flatten(4, 5).flatten(1, 2)


def from_blocks(tokens: Tensor, size: int, grid: tuple[int, int]) -> Tensor:
    """Put blocks without a halo together again: (B, G, c, H, W)."""
    height, width = grid
    x = tokens.unflatten(3, (size, size)).unflatten(1, count_blocks(grid, size))
    # (G, a, b, B, size, size, c)
    x = x.permute(3, 0, 6, 1, 4, 2, 5).flatten(5, 6).flatten(3, 4)
    return x[..., :height, :width]
