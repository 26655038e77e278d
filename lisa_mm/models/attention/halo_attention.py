"""Softmax self-attention of blocks to their surroundings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lisa_mm.models.layers import init_layer
from lisa_mm.ops._checks import check_count
from lisa_mm.registry import MODELS

from ._base import QKVAttention, offsets, similarities, softmax_2d
from ._blocks import count_blocks, from_blocks, to_blocks


@MODELS.register_module()
class HaloAttention(QKVAttention):
    """Self-attention of square blocks of queries to the block and a halo around it.

    Linear in the positions. Positions enter by products of the query with
    learned embeddings of the offset, one of its rows and one of its columns.
    What is outside the grid is not attended to.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Heads G; each has c = C / G channels.
        block_size: Side of a block, in positions. Defaults to 8.
        halo_size: Width of the halo, in positions. Defaults to 3.
        qkv_bias: Whether queries, keys and values have a bias. Defaults to
            True.
        init_cfg: Initialisation config of MMEngine. Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lisa_mm.models import HaloAttention
        >>> attention = HaloAttention(embed_dims=32, num_heads=4)
        >>> attention(torch.randn(2, 32, 17, 30)).shape
        torch.Size([2, 32, 17, 30])

    Source: `Scaling Local Self-Attention for Parameter Efficient Visual
    Backbones <https://arxiv.org/abs/2103.12731>`_ (HaloNet).
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        block_size: int = 8,
        halo_size: int = 3,
        qkv_bias: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(embed_dims, num_heads, qkv_bias, init_cfg)
        check_count('block_size', block_size)
        check_count('halo_size', halo_size, minimum=0)
        self.block_size = block_size
        self.halo_size = halo_size
        self.apply(init_layer)
        channels = embed_dims // num_heads
        # offsets from -(block_size + halo_size - 1) on, of the same variance as a unit key
        shape = 2 * (block_size + halo_size) - 1, channels
        self.rpe_rows, self.rpe_columns = (
            nn.Parameter(torch.randn(shape) * channels**-0.5) for _ in range(2)
        )

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mix values, (B, G, c, H, W) like queries and keys."""
        grid = query.shape[-2:]
        size, halo = self.block_size, self.halo_size
        queries = to_blocks(query, size)  # (G, blocks, B, T, c)
        keys, values = (to_blocks(maps, size, halo) for maps in (key, value))
        bias = self._bias(queries, grid)
        tokens = (blocks.flatten(0, 1) for blocks in (queries, keys, values))
        out = F.scaled_dot_product_attention(*tokens, attn_mask=bias.flatten(0, 1))
        return from_blocks(out.unflatten(0, (self.num_heads, -1)), size, grid)

    def extra_repr(self) -> str:
        """Name what the submodules do not show."""
        return (
            f'num_heads={self.num_heads}, block_size={self.block_size}, halo_size={self.halo_size}'
        )

    def _bias(self, queries: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return products of queries with embeddings of offsets, (G, blocks, B, T, S).

        They are minus infinity where the surroundings leave the grid.
        """
        size, halo = self.block_size, self.halo_size
        device = queries.device
        index = _offset_index(size, halo, device)
        blocks = count_blocks(grid, size)
        queries = queries.unflatten(1, blocks).unflatten(-2, (size, size))
        queries = queries / queries.shape[-1] ** 0.5  # (G, a, b, B, y, x, c)
        tables = (table.to(queries.dtype)[index] for table in (self.rpe_rows, self.rpe_columns))
        parts = []
        for axis, (pattern, table) in enumerate(zip(('yic', 'xic'), tables)):
            part = torch.einsum(f'gabnyxc,{pattern}->gabnyxi', queries, table)
            starts = torch.arange(blocks[axis], device=device) * size - halo
            at = starts[:, None] + torch.arange(size + 2 * halo, device=device)
            outside = (at < 0) | (at >= grid[axis])
            outside = outside[:, None] if axis == 0 else outside[None]  # (a, b, i)
            parts.append(part.masked_fill(outside[:, :, None, None, None], float('-inf')))
        bias = parts[0].unsqueeze(-1) + parts[1].unsqueeze(-2)  # (..., y, x, i, j)
        return bias.flatten(-2).flatten(-3, -2).flatten(1, 2)

    def _kernels(self, query: Tensor, key: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        logits = similarities(query, key)
        last = self.block_size + self.halo_size - 1
        near = []
        for axis, (start, table) in enumerate(
            ((rows, self.rpe_rows), (columns, self.rpe_columns)), start=-2
        ):
            size = key.shape[axis]
            at = torch.arange(size, device=key.device)
            first = start // self.block_size * self.block_size - self.halo_size
            end = first + self.block_size + 2 * self.halo_size
            near.append((at >= first[:, None]) & (at < end[:, None]))
            embeddings = table.to(query.dtype)[offsets(start, size).clamp(-last, last) + last]
            products = torch.einsum('bgck,knc->bgkn', query, embeddings)
            logits = logits + products.unsqueeze(-1 if axis == -2 else -2)
        apart = ~(near[0][:, :, None] & near[1][:, None, :])
        return softmax_2d((logits / query.shape[2] ** 0.5).masked_fill(apart, float('-inf')))


def _offset_index(size: int, halo: int, device: torch.device) -> Tensor:
    """Return the index of the offset from a place in a block to one in its surroundings."""
    places = torch.arange(size, device=device)[:, None]
    return torch.arange(size + 2 * halo, device=device) - places + size - 1
