"""The log-linear implementation: correlation as a product of spectra.

Nothing of the size of all patterns times all channels is held: patterns are
taken one at a time, and samples, heads and channels in parts that stay in a
CPU's cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ._offsets import pad_axis, unwrap, wrap

# Bytes of the spectra of a part. A CPU is fastest where what it works on stays in the cache of
# a core (measured from 0.25 to 4 MiB per thread); a GPU wants few launches.
CPU_PART_BYTES = 2**20
GPU_PART_BYTES = 2**27

Part = tuple[slice, slice, slice]


class FourierCorrelation:
    """Correlation of maps on one grid with the tables of their heads.

    All sums over offsets are ``(E_p * x)[n] = sum_d E_p[d] x[n + d]``. Maps and
    tables are of one dtype, float32 or float64.

    Args:
        table: Tables E, (G, P, 2*ry+1, 2*rx+1).
        grid: (H, W) of the maps.
        boundary: ``'zero'`` or ``'circular'``.
    """

    def __init__(self, table: Tensor, grid: tuple[int, int], boundary: str) -> None:
        self.grid = tuple(grid)
        self.radius = tuple(extent // 2 for extent in table.shape[2:])
        self.num_patterns = table.shape[1]
        self.size = fft_size(self.grid, self.radius, boundary)
        self.boundary = boundary
        # A correlation is a convolution with the mirrored table. Mirroring the
        # table spares a complex conjugate in the forward direction.
        self.factors = self._transform(self._wrap(table.flip(2, 3)))  # (G, P, W'//2+1, H')

    def correlate(self, x: Tensor) -> Tensor:
        """Return all E_p * x, (B, G, C, P, H, W)."""
        out = x.new_empty((*x.shape[:3], self.num_patterns, *self.grid))
        for part in self._parts(x):
            for p, context in self._contexts(self._transform(x[part]), part):
                out[part][:, :, :, p] = context
        return out

    def correlate_backward(
        self, grad: Tensor, x: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of :meth:`correlate` for x and the table."""
        return self._adjoint(x, lambda part, p: grad[part][:, :, :, p], wanted)

    def reduce_channels(self, maps: Tensor, x: Tensor) -> Tensor:
        """Return sum_c maps_c (E_p * x_c), (B, G, P, H, W)."""
        out = maps.new_zeros((*x.shape[:2], self.num_patterns, *self.grid))
        for part in self._parts(x):
            for p, context in self._contexts(self._transform(x[part]), part):
                out[part[:2]][:, :, p] += (maps[part] * context).sum(2)
        return out

    def reduce_channels_backward(
        self, grad: Tensor, maps: Tensor, x: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of :meth:`reduce_channels` for maps, x and the table."""
        grad_maps = torch.zeros_like(maps) if wanted[0] else None

        def visit(part: Part, p: int, context: Tensor) -> None:
            grad_maps[part].addcmul_(context, grad[part[:2]][:, :, p].unsqueeze(2))

        grads = self._adjoint(
            x,
            lambda part, p: maps[part] * grad[part[:2]][:, :, p].unsqueeze(2),
            wanted[1:],
            visit if wanted[0] else None,
        )
        return grad_maps, *grads

    def reduce_patterns(self, weights: Tensor, x: Tensor) -> Tensor:
        """Return sum_p weights_p (E_p * x_c), (B, G, C, H, W)."""
        out = torch.zeros_like(x)
        for part in self._parts(x):
            for p, context in self._contexts(self._transform(x[part]), part):
                out[part].addcmul_(context, weights[part[:2]][:, :, p].unsqueeze(2))
        return out

    def reduce_patterns_backward(
        self, grad: Tensor, weights: Tensor, x: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of :meth:`reduce_patterns` for weights, x and the table."""
        grad_weights = torch.zeros_like(weights) if wanted[0] else None

        def visit(part: Part, p: int, context: Tensor) -> None:
            grad_weights[part[:2]][:, :, p] += (grad[part] * context).sum(2)

        grads = self._adjoint(
            x,
            lambda part, p: grad[part] * weights[part[:2]][:, :, p].unsqueeze(2),
            wanted[1:],
            visit if wanted[0] else None,
        )
        return grad_weights, *grads

    def _adjoint(
        self,
        x: Tensor,
        gradient: Callable[[Part, int], Tensor],
        wanted: tuple[bool, bool],
        visit: Callable[[Part, int, Tensor], None] | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Propagate gradients through the correlation.

        Args:
            x: (B, G, C, H, W).
            gradient: Gives the gradient of E_p * x for a part and a p.
            wanted: Whether gradients for x and for the table are wanted.
            visit: Called with every E_p * x, where these are needed besides.
        """
        grad_x = grad_table = None
        if wanted[0]:
            grad_x = torch.empty_like(x)
            adjoint_factors = self.factors.conj().resolve_conj()
        if wanted[1]:
            grad_factors = torch.zeros_like(self.factors)
        for part in self._parts(x):
            heads = part[1]
            spectrum = self._transform(x[part])
            if visit is not None:
                for p, context in self._contexts(spectrum, part):
                    visit(part, p, context)
            if not any(wanted):
                continue
            grad_spectrum = torch.zeros_like(spectrum) if wanted[0] else None
            for p in range(self.num_patterns):
                product = self._transform(gradient(part, p))
                if wanted[0]:
                    grad_spectrum.addcmul_(product, adjoint_factors[heads, p].unsqueeze(1))
                if wanted[1]:
                    # conjugated, to spare a copy of the spectrum: undone below
                    grad_factors[heads, p] += product.conj_physical_().mul_(spectrum).sum((0, 2))
            if wanted[0]:
                grad_x[part] = self._inverse(grad_spectrum)
        if wanted[1]:
            cells = self._inverse(grad_factors.conj_physical_(), self.size)
            grad_table = self._unwrap(cells).flip(2, 3)
        return grad_x, grad_table

    def _contexts(self, spectrum: Tensor, part: Part) -> Iterator[tuple[int, Tensor]]:
        for p in range(self.num_patterns):
            yield p, self._inverse(spectrum * self.factors[part[1], p].unsqueeze(1))

    # Spectra have their last two axes swapped: both one-dimensional transforms
    # then run over contiguous memory, with a single copy between them.
    def _transform(self, x: Tensor) -> Tensor:
        """Map (..., H, W), or already padded, to (..., W'//2+1, H')."""
        rows = torch.fft.rfft(x, n=self.size[1])
        return torch.fft.fft(rows.transpose(-1, -2), n=self.size[0])

    def _inverse(self, spectrum: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Map (..., W'//2+1, H') to the grid, (..., H, W)."""
        height, width = grid or self.grid
        # only the rows of the grid go through the second transform
        rows = torch.fft.ifft(spectrum)[..., :height].transpose(-1, -2)
        return torch.fft.irfft(rows, n=self.size[1])[..., :width]

    def _parts(self, x: Tensor) -> Iterator[Part]:
        """Split samples, heads and channels into parts of about the same small size."""
        heads, channels = x.shape[1:3]
        values = self.size[0] * (self.size[1] // 2 + 1)
        if x.device.type == 'cpu':
            budget = CPU_PART_BYTES * torch.get_num_threads()
        else:
            budget = GPU_PART_BYTES
        fit = max(1, budget // (values * 2 * x.element_size()))
        steps = (max(1, fit // (heads * channels)), max(1, fit // channels), fit)
        starts = (range(0, size, step) for size, step in zip(x.shape, steps))
        for start in itertools.product(*starts):
            yield tuple(slice(first, first + step) for first, step in zip(start, steps))

    def _wrap(self, table: Tensor) -> Tensor:
        """Lay tables out as periodic maps of the size of the transforms, offset 0 first."""
        for axis, size in zip((2, 3), self.size):
            margin = self._margin(axis)
            table = table.narrow(axis, margin, table.shape[axis] - 2 * margin)
            table = wrap(table, axis, size)
        return table

    def _unwrap(self, cells: Tensor) -> Tensor:
        """Read the entries of tables from periodic maps: the adjoint of the above."""
        for axis, radius in zip((2, 3), self.radius):
            margin = self._margin(axis)
            cells = F.pad(unwrap(cells, axis, radius - margin), pad_axis(axis, margin))
        return cells

    def _margin(self, axis: int) -> int:
        """Return how far tables reach beyond the offsets between two positions of the grid."""
        excess = self.radius[axis - 2] - (self.grid[axis - 2] - 1)
        return max(0, excess) if self.boundary == 'zero' else 0


def fft_size(grid: tuple[int, int], radius: tuple[int, int], boundary: str) -> tuple[int, int]:
    """Return the size (H', W') of the transforms that correlate on a grid.

    Wrap-around needs the grid itself. A zero boundary needs room for the
    largest offset that can occur, once: what leaves the grid at one side comes
    back at the other, so that one margin serves both.

    Args:
        grid: (H, W) of the maps.
        radius: Half extents (ry, rx) of the tables.
        boundary: ``'zero'`` or ``'circular'``.
    """
    if boundary == 'circular':
        return tuple(grid)
    return tuple(next_fast_size(size + min(r, size - 1)) for size, r in zip(grid, radius))


def next_fast_size(size: int) -> int:
    """Return a length of at least ``size`` that FFTs are fast for.

    The least product of 2, 3, 5 and 7 that is a multiple of 4, beyond 4: real
    transforms of odd length took more than twice as long as longer ones of
    such lengths.

    Example:
        >>> from lisa_mm.ops._fourier import next_fast_size
        >>> [next_fast_size(size) for size in (1, 3, 11, 83, 361)]
        [1, 3, 12, 84, 384]
    """
    if size <= 4:
        return size
    size += -size % 4
    while True:
        rest = size
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 4
