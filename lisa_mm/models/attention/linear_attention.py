"""Linear attention by the first-order Taylor expansion of the exponential."""

from __future__ import annotations

import torch
from torch import Tensor

from lisa_mm.models.layers import init_layer
from lisa_mm.registry import MODELS

from ._base import QKVAttention, l2_normalize, similarities


@MODELS.register_module()
class LinearAttention(QKVAttention):
    r"""Attention with 1 + q k in place of exp(q k), queries and keys L2-normalised.

    .. math:: K_{nm} = (1 + q_n \cdot k_m) / \sum_{m'} (1 + q_n \cdot k_{m'})

    No weight is negative, and sums over positions come first: linear in their
    number.

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
        >>> from lisa_mm.models import LinearAttention
        >>> attention = LinearAttention(embed_dims=32, num_heads=4)
        >>> attention(torch.randn(2, 32, 7, 10)).shape
        torch.Size([2, 32, 7, 10])

    Source: `Linear Attention Mechanism: An Efficient Attention for Semantic
    Segmentation <https://arxiv.org/abs/2007.14902>`_.
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
        query, key = (l2_normalize(maps).to(value.dtype) for maps in (query, key))
        # the sums as means: those over many positions do not fit half precision
        share = (query.shape[3] * query.shape[4]) ** -0.5
        context = torch.einsum(
            'bgcn,bgdn->bgcd', (key * share).flatten(3), (value * share).flatten(3)
        )
        mixed = torch.einsum('bgcd,bgchw->bgdhw', context, query)
        mixed = mixed + value.mean((3, 4), keepdim=True)
        return mixed / _mean(query, key)

    def _kernels(self, query: Tensor, key: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        query, key = l2_normalize(query), l2_normalize(key)
        total = _mean(query, key).squeeze(2) * (key.shape[3] * key.shape[4])
        return (1 + similarities(query, key)) / total[..., None, None]


def _mean(query: Tensor, key: Tensor) -> Tensor:
    """Return the mean over m of 1 + q_n k_m for queries (B, G, c, ...), with one channel."""
    means = key.mean((3, 4)).view(*key.shape[:3], *[1] * (query.dim() - 3))
    # it is zero where all keys are opposite to the query
    return (1 + (query * means).sum(2, keepdim=True)).clamp_min(1e-6)
