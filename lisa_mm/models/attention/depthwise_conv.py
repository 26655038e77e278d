"""A depthwise convolution in the place of an attention."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from lisa_mm.models.layers import init_layer
from lisa_mm.ops._checks import check_heads, check_odd
from lisa_mm.ops._dense import matrix_rows
from lisa_mm.registry import MODELS

from ._base import check_positions


@MODELS.register_module()
class DepthwiseConv(BaseModule):
    """Convolve every channel with a small kernel of its own: the plain baseline.

    In ConvNeXt convolution and MLP share one residual; what stands in a block
    here has one of its own.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Not used; every channel is a head.
        kernel_size: Extent of the kernels, odd. Defaults to 7.
        init_cfg: Initialisation config of MMEngine. Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lisa_mm.models import DepthwiseConv
        >>> attention = DepthwiseConv(embed_dims=32, num_heads=4)
        >>> attention(torch.randn(2, 32, 7, 10)).shape
        torch.Size([2, 32, 7, 10])

    Source: the mixer of `A ConvNet for the 2020s
    <https://arxiv.org/abs/2201.03545>`_ (ConvNeXt).
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        kernel_size: int = 7,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_heads(embed_dims, num_heads)
        check_odd('kernel_size', kernel_size)
        self.conv = nn.Conv2d(
            embed_dims, embed_dims, kernel_size, padding=kernel_size // 2, groups=embed_dims
        )
        self.apply(init_layer)

    @property
    def output_weight(self) -> nn.Parameter:
        """The weights that the output ends with."""
        return self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        """Mix the positions of a map.

        Args:
            x: (B, C, H, W), any grid.

        Returns:
            Tensor: (B, C, H, W).
        """
        return self.conv(x)

    def kernels(self, x: Tensor, positions: Tensor) -> Tensor:
        """Compute the weights with which every channel sees that of every position.

        Args:
            x: (B, C, H, W), any grid.
            positions: Rows and columns of the queries, (K, 2), integers.

        Returns:
            Tensor: (B, C, K, H, W).

        Raises:
            ValueError: If a position is not on the grid.
        """
        grid = x.shape[-2:]
        places = check_positions(positions, x)
        kernels = matrix_rows(self.conv.weight, places, grid, 'zero').squeeze(1)
        return kernels.expand(x.shape[0], *kernels.shape)
