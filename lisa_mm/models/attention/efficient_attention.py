"""Efficient attention: two softmaxes and the product with the values first."""

from __future__ import annotations

import torch
from torch import Tensor

from lisa_mm.models.layers import init_layer
from lisa_mm.registry import MODELS

from ._base import QKVAttention, similarities, softmax_2d


@MODELS.register_module()
class EfficientAttention(QKVAttention):
    """Attention with a softmax of queries over channels, and of keys over positions.

    The product of keys with values, a (c, c) matrix per head, comes first:
    linear in the positions. The kernels, products of the two softmaxes, sum to
    one.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Heads G; each has c = C / G channels.
        qkv_bias: Whether queries, keys and values have a bias. Defaults to
            True.
        init_cfg: Initialisation config of MMEngine. Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lisa_mm.models import EfficientAttention
        >>> attention = EfficientAttention(embed_dims=32, num_heads=4)
        >>> attention(torch.randn(2, 32, 7, 10)).shape
        torch.Size([2, 32, 7, 10])

    Source: `Efficient Attention: Attention with Linear Complexities
    <https://arxiv.org/abs/1812.01243>`_.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(embed_dims, num_heads, qkv_bias, init_cfg)
        self.apply(init_layer)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mix values, (B, G, c, H, W) like queries and keys."""
        context = torch.einsum('bgcn,bgdn->bgcd', softmax_2d(key).flatten(3), value.flatten(3))
        return torch.einsum('bgcd,bgchw->bgdhw', context, query.softmax(2))

    def _kernels(self, query: Tensor, key: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return similarities(query.softmax(2), softmax_2d(key))
