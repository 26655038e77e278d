"""Softmax self-attention over the whole grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lisa_mm.models.layers import init_layer
from lisa_mm.ops._checks import to_pair
from lisa_mm.ops._dense import full_matrix, matrix_rows
from lisa_mm.registry import MODELS

from ._base import QKVAttention, similarities, softmax_2d


@MODELS.register_module()
class SelfAttention(QKVAttention):
    """Multi-head self-attention: softmax(q k^T / sqrt(c) + b) v.

    By PyTorch's fused ``scaled_dot_product_attention``: time grows with the
    square of the positions N; memory with N, with a position bias with its
    square, too.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Heads G; each has c = C / G channels.
        position_bias: Whether there is a learned bias b for the offset from
            query to key, per head. Defaults to False: no sense of position.
        rpe_radius: Half extents (ry, rx) of the bias, in positions of the
            grid; one number for both; without it not used. Larger offsets take
            that of the largest. Defaults to 13.
        qkv_bias: Whether queries, keys and values have a bias. Defaults to
            True.
        init_cfg: Initialisation config of MMEngine. Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lisa_mm.models import SelfAttention
        >>> attention = SelfAttention(embed_dims=32, num_heads=4)
        >>> attention(torch.randn(2, 32, 7, 10)).shape
        torch.Size([2, 32, 7, 10])

    Source: `Attention Is All You Need <https://arxiv.org/abs/1706.03762>`_;
    the bias as in `Swin Transformer <https://arxiv.org/abs/2103.14030>`_.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        position_bias: bool = False,
        rpe_radius: int | tuple[int, int] = 13,
        qkv_bias: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(embed_dims, num_heads, qkv_bias, init_cfg)
        self.apply(init_layer)
        self.rpe_bias = None
        ry, rx = to_pair('rpe_radius', rpe_radius, minimum=0)
        if position_bias:
            self.rpe_bias = nn.Parameter(torch.zeros(num_heads, 2 * ry + 1, 2 * rx + 1))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mix values, (B, G, c, H, W) like queries and keys."""
        grid = query.shape[-2:]
        bias = None
        if self.rpe_bias is not None:
            # (1, G, N, N): without the first axis a CPU would not take the fused kernel
            bias = full_matrix(self._table(grid), grid, 'zero').squeeze(2)[None].to(query.dtype)
        tokens = (maps.flatten(3).transpose(2, 3).contiguous() for maps in (query, key, value))
        out = F.scaled_dot_product_attention(*tokens, attn_mask=bias)
        return out.transpose(2, 3).unflatten(3, grid)

    def _kernels(self, query: Tensor, key: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        logits = similarities(query, key) / query.shape[2] ** 0.5
        if self.rpe_bias is not None:
            grid = key.shape[-2:]
            logits = logits + matrix_rows(self._table(grid), (rows, columns), grid, 'zero')[:, 0]
        return softmax_2d(logits)

    def _table(self, grid: tuple[int, int]) -> Tensor:
        """Return the biases as a table (G, 1, ...) of all offsets on a grid."""
        dy, dx = (
            max(0, size - 1 - extent // 2) for size, extent in zip(grid, self.rpe_bias.shape[1:])
        )
        return F.pad(self.rpe_bias[:, None], (dx, dx, dy, dy), mode='replicate')
