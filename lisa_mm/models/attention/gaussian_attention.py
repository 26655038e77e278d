"""Attention maps modelled explicitly, by a Gaussian of the distance."""

from __future__ import annotations

import math

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from lisa_mm.models.layers import init_layer
from lisa_mm.ops._checks import check_heads
from lisa_mm.registry import MODELS

from ._base import at_least_float32, check_positions, offsets


@MODELS.register_module()
class GaussianAttention(BaseModule):
    r"""Attention weights given by a Gaussian of the distance, of a learned radius per head.

    .. math:: K_{nm} = \exp(-|m - n|^2 / 2 r^2) / \sum_{m'} \exp(-|m' - n|^2 / 2 r^2)

    There are no queries and keys: the weights do not depend on the content.
    They are a product of one for the rows and one for the columns, so that the
    cost is N (H + W) for N = H * W positions.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Heads G; each has c = C / G channels.
        init_radius: Radii r that the first and the last head start with, in
            positions; those between in geometric progression. Defaults to
            (1, 4).
        init_cfg: Initialisation config of MMEngine. Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lisa_mm.models import GaussianAttention
        >>> attention = GaussianAttention(embed_dims=32, num_heads=4)
        >>> attention(torch.randn(2, 32, 7, 10)).shape
        torch.Size([2, 32, 7, 10])

    Source: `Explicitly Modeled Attention Maps for Image Classification
    <https://arxiv.org/abs/2006.07872>`_.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        init_radius: tuple[float, float] = (1.0, 4.0),
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_heads(embed_dims, num_heads)
        if (
            not isinstance(init_radius, (tuple, list))
            or len(init_radius) != 2
            or not all(isinstance(r, (int, float)) and 0 < r < math.inf for r in init_radius)
        ):
            raise ValueError(f'init_radius must be two positive numbers, got {init_radius!r}')
        self.num_heads = num_heads
        self.value = nn.Conv2d(embed_dims, embed_dims, 1)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)
        # by its logarithm the radius stays positive; by its name the recipes do not decay it
        first, last = map(math.log, init_radius)
        self.rpe_log_radius = nn.Parameter(torch.linspace(first, last, num_heads))
        self.apply(init_layer)

    @property
    def output_weight(self) -> nn.Parameter:
        """The weights that the output ends with."""
        return self.proj.weight

    def forward(self, x: Tensor) -> Tensor:
        """Mix the positions of a map.

        Args:
            x: (B, C, H, W), any grid.

        Returns:
            Tensor: (B, C, H, W).
        """
        value = self.value(x).unflatten(1, (self.num_heads, -1))
        rows, columns = (
            self._weights(torch.arange(size, device=x.device), size).to(value.dtype)
            for size in x.shape[-2:]
        )
        out = torch.einsum('bgcyx,gwx->bgcyw', value, columns)
        out = torch.einsum('bgcyw,ghy->bgchw', out, rows)
        return self.proj(out.flatten(1, 2))

    def kernels(self, x: Tensor, positions: Tensor) -> Tensor:
        """Compute the weights with which queries see the values of every position.

        Args:
            x: (B, C, H, W), any grid.
            positions: Rows and columns of the queries, (K, 2), integers.

        Returns:
            Tensor: (B, G, K, H, W).

        Raises:
            ValueError: If a position is not on the grid.
        """
        grid = x.shape[-2:]
        rows, columns = (
            self._weights(start, size) for start, size in zip(check_positions(positions, x), grid)
        )
        kernels = rows[..., :, None] * columns[..., None, :]
        return kernels.expand(x.shape[0], *kernels.shape)

    def _weights(self, start: Tensor, size: int) -> Tensor:
        """Return the weights (G, K, size) along one axis."""
        squares = offsets(start, size).square()
        precision = (-2 * at_least_float32(self.rpe_log_radius)).exp()
        return (-0.5 * squares * precision[:, None, None]).softmax(-1)
