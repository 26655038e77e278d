"""Cutting maps into blocks, for local attention."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def to_blocks(x: Tensor, size: int, halo: int = 0) -> Tensor:
    """Cut maps into square blocks, each with the positions around it.

    Args:
        x: (B, G, c, H, W). It is padded with zeros to full blocks.
        size: Side of a block, in positions.
        halo: Positions around it. Defaults to 0.

    Returns:
        Tensor: Tokens of a, b blocks, (a * b * G, B, (size + 2 * halo)^2, c).
        The blocks stand with the heads so that a bias or mask of theirs serves
        all samples.
    """
    height, width = x.shape[-2:]
    x = F.pad(x, (halo, halo + -width % size, halo, halo + -height % size))
    side = size + 2 * halo
    x = x.unfold(3, side, size).unfold(4, side, size)  # (B, G, c, a, b, side, side)
    return x.permute(3, 4, 1, 0, 5, 6, 2).flatten(4, 5).flatten(0, 2)


def from_blocks(tokens: Tensor, size: int, heads: int, grid: tuple[int, int]) -> Tensor:
    """Put blocks without a halo together again: (B, G, c, H, W)."""
    height, width = grid
    blocks = -(-height // size), -(-width // size)
    x = tokens.unflatten(2, (size, size)).unflatten(0, (*blocks, heads))
    # (a, b, G, B, size, size, c)
    x = x.permute(3, 2, 6, 0, 4, 1, 5).flatten(5, 6).flatten(3, 4)
    return x[..., :height, :width]
