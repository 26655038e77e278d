"""The Fourier implementation in real matrix products, for graphs that are exported.

ONNX knows neither the operators of this package nor complex numbers. Sums over
a whole axis in place of fast transforms make it O(N (H + W)); there are no
choices that depend on the grid, so that its size may stay open in the graph.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


class RealFourierCorrelation:
    """Forward methods of :class:`~lisa_mm.ops._fourier.FourierCorrelation`.

    Args:
        table: Tables, (G, P, 2*ry+1, 2*rx+1).
        grid: (H, W) of the maps.
        boundary: ``'zero'`` or ``'circular'``.
    """

    def __init__(self, table: Tensor, grid: tuple[int, int], boundary: str) -> None:
        radius = [extent // 2 for extent in table.shape[2:]]
        # room for the largest offset, or none: then offsets count modulo the grid
        self.size = [n + r if boundary == 'zero' else n for n, r in zip(grid, radius)]
        self.frequencies = [
            torch.arange(self.size[0], device=table.device),
            torch.arange(self.size[1] // 2 + 1, device=table.device),
        ]
        offsets = [torch.arange(-r, r + 1, device=table.device) for r in radius]
        real, imag = self._transform(table, offsets)
        # conjugated: a correlation, not a convolution
        self.factors = real.unbind(1), (-imag).unbind(1)
        self.positions = [torch.arange(n, device=table.device) for n in grid]

    def correlate(self, x: Tensor) -> Tensor:
        """Return all E_p * x, (B, G, C, P, H, W)."""
        return torch.stack(self._contexts(x), dim=3)

    def reduce_channels(self, maps: Tensor, x: Tensor) -> Tensor:
        """Return sum_c maps_c (E_p * x_c), (B, G, P, H, W)."""
        return torch.stack([(maps * context).sum(2) for context in self._contexts(x)], dim=2)

    def reduce_patterns(self, weights: Tensor, x: Tensor) -> Tensor:
        """Return sum_p weights_p (E_p * x_c), (B, G, C, H, W)."""
        terms = zip(weights.unbind(2), self._contexts(x))
        return sum(weight.unsqueeze(2) * context for weight, context in terms)

    def _contexts(self, x: Tensor) -> list[Tensor]:
        real, imag = self._transform(x, self.positions)
        contexts = []
        for a, b in zip(*self.factors):
            a, b = a.unsqueeze(1), b.unsqueeze(1)
            contexts.append(self._inverse((real * a - imag * b, real * b + imag * a)))
        return contexts

    def _transform(self, x: Tensor, positions: list[Tensor]) -> Pair:
        """Return real and imaginary part of sum_yx x[y, x] exp(-i (u y + v x))."""
        cos, sin = self._waves(1, positions, x.dtype)
        real, imag = x @ cos, -(x @ sin)
        cos, sin = (wave.T for wave in self._waves(0, positions, x.dtype))
        return cos @ real + sin @ imag, cos @ imag - sin @ real

    def _inverse(self, spectrum: Pair) -> Tensor:
        real, imag = spectrum
        cos, sin = self._waves(0, self.positions, real.dtype)
        real, imag = cos @ real - sin @ imag, cos @ imag + sin @ real
        cos, sin = (wave.T for wave in self._waves(1, self.positions, real.dtype))
        # Half of the frequencies stand for their mirror images too; 0, and half the size where
        # that is a frequency, have none.
        frequency = self.frequencies[1]
        alone = (frequency == 0) | (2 * frequency == self.size[1])
        weight = (2 - alone.to(real.dtype)) / (self.size[0] * self.size[1])
        return (real * weight) @ cos - (imag * weight) @ sin

    def _waves(self, axis: int, positions: list[Tensor], dtype: torch.dtype) -> Pair:
        """Return cosine and sine of all positions times frequencies of an axis."""
        size = self.size[axis]
        product = (positions[axis][:, None] * self.frequencies[axis]).to(dtype)
        # The remainder, which is exact: large angles have few digits left. (Not by `%`, which
        # does not take an open size when exported.)
        remainder = product - (product / size).floor() * size
        angle = remainder * (2 * math.pi / size)
        return angle.cos(), angle.sin()
