"""Softmax self-attention over the whole grid."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from lisa_mm.models.layers import init_layer
from lisa_mm.ops._checks import check_heads
from lisa_mm.registry import MODELS


@MODELS.register_module()
class SelfAttention(BaseModule):
    """Multi-head self-attention: softmax(q k^T / sqrt(dk)) v, without positions.

    By PyTorch's fused ``scaled_dot_product_attention``: memory grows with the
    positions N, time with their square.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Heads G; each has C / G channels.
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

    Source: `Attention Is All You Need <https://arxiv.org/abs/1706.03762>`_.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.qkv = nn.Conv2d(embed_dims, 3 * embed_dims, 1, bias=qkv_bias)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)
        self.apply(init_layer)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the positions of a map.

        Args:
            x: (B, C, H, W), any grid.

        Returns:
            Tensor: (B, C, H, W).
        """
        maps = self.qkv(x).flatten(2).unflatten(1, (3, self.num_heads, -1))
        query, key, value = maps.transpose(-1, -2).contiguous().unbind(1)  # (B, G, N, c)
        out = F.scaled_dot_product_attention(query, key, value)
        return self.proj(out.transpose(-1, -2).flatten(1, 2).unflatten(2, x.shape[-2:]))
