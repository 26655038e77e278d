"""A learned filter in the Fourier domain."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from lisa_mm.ops._checks import check_heads, to_pair
from lisa_mm.registry import MODELS

from ._base import at_least_float32, check_positions, offsets


@MODELS.register_module()
class GlobalFilter(BaseModule):
    """Multiply the 2-D spectrum of every channel by a learned one.

    The same as a circular convolution of every channel with a kernel of the
    extent of the grid. It does not depend on the content, and takes
    O(C N log N) for N positions. On another grid than its own the filter is
    interpolated as HorNet's code does it, corner to corner of the array, which
    moves frequencies a little and takes up to a third off the magnitude that a
    random one gives; so it is when weights for another grid are loaded. Computed
    in at least float32.

    In GFNet filter and MLP share one residual; what stands in a block here has
    one of its own.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Not used; every channel is a head.
        reference_grid: Grid (H, W) that the filter is made for; one number for
            both. Defaults to 14.
        init_cfg: Initialisation config of MMEngine. Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lisa_mm.models import GlobalFilter
        >>> attention = GlobalFilter(embed_dims=32, num_heads=4)
        >>> attention(torch.randn(2, 32, 7, 10)).shape
        torch.Size([2, 32, 7, 10])

    Source: `Global Filter Networks for Image Classification
    <https://arxiv.org/abs/2107.00645>`_.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        reference_grid: int | tuple[int, int] = 14,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_heads(embed_dims, num_heads)
        height, width = to_pair('reference_grid', reference_grid, minimum=1)
        # Real and imaginary parts last: optimisers and NCCL do not like complex parameters. Of
        # unit power in the mean, so that the output is as large as the input.
        self.filter = nn.Parameter(torch.randn(embed_dims, height, width // 2 + 1, 2) * 0.5**0.5)

    @property
    def output_weight(self) -> nn.Parameter:
        """The weights that the output ends with."""
        return self.filter

    def forward(self, x: Tensor) -> Tensor:
        """Mix the positions of a map.

        Args:
            x: (B, C, H, W), any grid.

        Returns:
            Tensor: (B, C, H, W).
        """
        grid = x.shape[-2:]
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.fft.rfft2(at_least_float32(x)) * self._filter_for(grid)
            return torch.fft.irfft2(spectrum, s=grid).to(x.dtype)

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
        impulse = torch.fft.irfft2(self._filter_for(grid), s=grid)
        # of the offset from a position to the one that sees it, around the grid
        dy, dx = (
            -offsets(start, size) % size for start, size in zip(check_positions(positions, x), grid)
        )
        kernels = impulse[:, dy[:, :, None], dx[:, None, :]]
        return kernels.expand(x.shape[0], *kernels.shape)

    def _filter_for(self, grid: tuple[int, int]) -> Tensor:
        """Return the filter (C, H, W // 2 + 1), complex, for a grid."""
        size = grid[0], grid[1] // 2 + 1
        parts = _interpolate(at_least_float32(self.filter), size)
        # In the columns that are their own mirror images only the half that belongs to a real
        # filter counts. CPUs drop the other one, CUDA's inverse transform leaves it undefined.
        column = torch.arange(size[1], device=parts.device)[:, None]
        mirrored = parts.flip(1).roll(1, 1) * parts.new_tensor([1.0, -1.0])
        parts = torch.where((2 * column) % grid[1] == 0, (parts + mirrored) / 2, parts)
        return torch.view_as_complex(parts.contiguous())

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load weights; a filter for another grid is interpolated once for all."""
        key = prefix + 'filter'
        loaded = state_dict.get(key)
        if loaded is not None and loaded.dim() == 4 and loaded.shape[::3] == self.filter.shape[::3]:
            state_dict[key] = _interpolate(at_least_float32(loaded), tuple(self.filter.shape[1:3]))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _interpolate(parts: Tensor, size: tuple[int, int]) -> Tensor:
    """Carry a filter (C, H, W // 2 + 1, 2) to another size of its second and third axis."""
    if tuple(parts.shape[1:3]) == size:
        return parts
    planes = parts.permute(3, 0, 1, 2)
    planes = F.interpolate(planes, size=size, mode='bilinear', align_corners=True)
    return planes.permute(1, 2, 3, 0)
