"""Focused linear attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lisa_mm.models.layers import init_layer
from lisa_mm.ops._checks import check_odd
from lisa_mm.registry import MODELS

from ._base import QKVAttention, at_least_float32, similarities


@MODELS.register_module()
class FocusedLinearAttention(QKVAttention):
    r"""Linear attention of focused queries and keys, and a depthwise convolution of the values.

    .. math::
        y_n = \frac{\phi(q_n) \sum_m \phi(k_m)^T v_m}{\phi(q_n) \sum_m \phi(k_m)^T} + (W * v)_n,
        \qquad \phi(x) = \frac{|r|}{|r^p|} r^p, \quad r = \mathrm{ReLU}(x)

    with the power taken channel by channel: it turns similar directions closer
    together, and others apart. Linear in the positions. The kernels are those of
    the attention, without the convolution.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Heads G; each has c = C / G channels.
        focusing_factor: The power p. Defaults to 3.
        kernel_size: Extent of the convolution, odd. Defaults to 5.
        qkv_bias: Whether queries, keys and values have a bias. Defaults to
            True.
        init_cfg: Initialisation config of MMEngine. Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lisa_mm.models import FocusedLinearAttention
        >>> attention = FocusedLinearAttention(embed_dims=32, num_heads=4)
        >>> attention(torch.randn(2, 32, 7, 10)).shape
        torch.Size([2, 32, 7, 10])

    Source: `FLatten Transformer: Vision Transformer using Focused Linear
    Attention <https://arxiv.org/abs/2308.00442>`_, by the formula for a single
    head. Its code adds position embeddings, which are made for windows of one
    size, and a learned scale of each channel, and takes the norms of all heads
    in one.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        focusing_factor: float = 3,
        kernel_size: int = 5,
        qkv_bias: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(embed_dims, num_heads, qkv_bias, init_cfg)
        if not isinstance(focusing_factor, (int, float)) or not 0 < focusing_factor < math.inf:
            raise ValueError(f'focusing_factor must be a positive number, got {focusing_factor!r}')
        check_odd('kernel_size', kernel_size)
        self.focusing_factor = focusing_factor
        # one for all heads
        channels = embed_dims // num_heads
        self.conv = nn.Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        self.apply(init_layer)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mix values, (B, G, c, H, W) like queries and keys."""
        local = self.conv(value.flatten(0, 1)).view_as(value)
        query, key = self._focus(query), self._focus(key)
        # For half precision: the context of a channel as a mean of values with weights of mean 1,
        # and the means of the channels added with shares of 1.
        mean = key.mean((3, 4), keepdim=True).clamp_min(torch.finfo(key.dtype).tiny)
        shares = query * mean
        shares = shares / shares.sum(2, keepdim=True)
        root = (query.shape[3] * query.shape[4]) ** -0.5
        context = torch.einsum(
            'bgcn,bgdn->bgcd',
            (key / mean * root).to(value.dtype).flatten(3),
            (value * root).flatten(3),
        )
        return torch.einsum('bgcd,bgchw->bgdhw', context, shares.to(value.dtype)) + local

    def extra_repr(self) -> str:
        """Name what the submodules do not show."""
        return f'num_heads={self.num_heads}, focusing_factor={self.focusing_factor}'

    def _kernels(self, query: Tensor, key: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        weights = similarities(self._focus(query), self._focus(key))
        return weights / weights.sum((-2, -1), keepdim=True)

    def _focus(self, x: Tensor) -> Tensor:
        """Apply phi to (B, G, c, ...), in at least float32: half precision has no room for it."""
        # more than zero, so that no sum of products vanishes
        x = at_least_float32(x).relu() + 1e-6
        # the scale does not matter to the direction: one that no power takes out of range
        power = (x / x.amax(2, keepdim=True)) ** self.focusing_factor
        return power * (x.norm(dim=2, keepdim=True) / power.norm(dim=2, keepdim=True))
