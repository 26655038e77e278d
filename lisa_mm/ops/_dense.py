"""The definition as written, O(N^2) in the N positions: attention kernels and all."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ._offsets import pad_axis, unwrap, wrap


class DenseCorrelation:
    """Correlation of maps on one grid with the tables of their heads, by matrices.

    The counterpart of :class:`~lisa_mm.ops._fourier.FourierCorrelation`, with
    the same methods. Sums over channels and over patterns come as attention
    kernels ``a[n, m] = maps[n] . x[m]`` and as structure-aware kernels
    ``K[n, m] = sum_p weights_p[n] E_p[m - n]``.

    Args:
        table: Tables E, (G, P, 2*ry+1, 2*rx+1).
        grid: (H, W) of the maps, N = H * W positions in row-major order.
        boundary: ``'zero'`` or ``'circular'``.
    """

    def __init__(self, table: Tensor, grid: tuple[int, int], boundary: str) -> None:
        self.grid = tuple(grid)
        self.radius = tuple(extent // 2 for extent in table.shape[2:])
        self.boundary = boundary
        # (G, N, P, N): entry [n, p, m] is E_p[m - n]
        self.matrix = full_matrix(table, self.grid, boundary)

    def correlate(self, x: Tensor) -> Tensor:
        """Return all E_p * x, (B, G, C, P, H, W)."""
        out = torch.einsum('bgcm,gnpm->bgcpn', x.flatten(-2), self.matrix)
        return out.unflatten(-1, self.grid)

    def correlate_backward(
        self, grad: Tensor, x: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of :meth:`correlate` for x and the table."""
        grad = grad.flatten(-2)
        grad_x = grad_table = None
        if wanted[0]:
            grad_x = torch.einsum('bgcpn,gnpm->bgcm', grad, self.matrix).unflatten(-1, self.grid)
        if wanted[1]:
            grad_table = self._table_of(torch.einsum('bgcpn,bgcm->gnpm', grad, x.flatten(-2)))
        return grad_x, grad_table

    def reduce_channels(self, maps: Tensor, x: Tensor) -> Tensor:
        """Return sum_c maps_c (E_p * x_c), (B, G, P, H, W)."""
        out = [self._patterns(_attention_kernel(maps[:, g], x[:, g]), g) for g in range(x.shape[1])]
        return torch.stack(out, dim=1).unflatten(-1, self.grid)

    def reduce_channels_backward(
        self, grad: Tensor, maps: Tensor, x: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of :meth:`reduce_channels` for maps, x and the table."""
        grads = []
        for g in range(x.shape[1]):
            # the gradient of the attention kernel
            kernel = self._kernel(grad[:, g], g)
            grad_matrix = None
            if wanted[2]:
                attention = _attention_kernel(maps[:, g], x[:, g])
                grad_matrix = _gradient_of_matrix(grad[:, g], attention)
            grads.append(
                (
                    self._apply(kernel, x[:, g]) if wanted[0] else None,
                    self._apply(kernel.transpose(1, 2), maps[:, g]) if wanted[1] else None,
                    grad_matrix,
                )
            )
        return self._collect(grads)

    def reduce_patterns(self, weights: Tensor, x: Tensor) -> Tensor:
        """Return sum_p weights_p (E_p * x_c), (B, G, C, H, W)."""
        out = [self._apply(self._kernel(weights[:, g], g), x[:, g]) for g in range(x.shape[1])]
        return torch.stack(out, dim=1)

    def reduce_patterns_backward(
        self, grad: Tensor, weights: Tensor, x: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of :meth:`reduce_patterns` for weights, x and the table."""
        grads = []
        for g in range(x.shape[1]):
            # the gradient of the structure-aware kernel
            attention = _attention_kernel(grad[:, g], x[:, g])
            grad_weights = grad_x = grad_matrix = None
            if wanted[0]:
                grad_weights = self._patterns(attention, g).unflatten(-1, self.grid)
            if wanted[1]:
                kernel = self._kernel(weights[:, g], g)
                grad_x = self._apply(kernel.transpose(1, 2), grad[:, g])
            if wanted[2]:
                grad_matrix = _gradient_of_matrix(weights[:, g], attention)
            grads.append((grad_weights, grad_x, grad_matrix))
        return self._collect(grads)

    def _patterns(self, attention: Tensor, g: int) -> Tensor:
        """Describe attention kernels (B, N, N) by patterns, (B, P, N)."""
        patterns = torch.bmm(attention.transpose(0, 1), self.matrix[g].transpose(1, 2))
        return patterns.permute(1, 2, 0)

    def _kernel(self, weights: Tensor, g: int) -> Tensor:
        """Rebuild kernels (B, N, N) from patterns (B, P, H, W)."""
        weights = weights.flatten(-2).permute(2, 0, 1)
        return torch.bmm(weights, self.matrix[g]).transpose(0, 1)

    def _apply(self, kernel: Tensor, x: Tensor) -> Tensor:
        """Apply kernels (B, N, N) to maps (B, C, H, W)."""
        return torch.bmm(x.flatten(-2), kernel.transpose(1, 2)).unflatten(-1, self.grid)

    def _collect(self, grads: list[tuple]) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Stack the gradients of the heads, and sum those of the matrix into the table."""
        first, second, matrix = (
            None if parts[0] is None else torch.stack(parts, dim=1) for parts in zip(*grads)
        )
        return first, second, None if matrix is None else self._table_of(matrix.transpose(0, 1))

    def _table_of(self, matrix: Tensor) -> Tensor:
        """Sum the entries (G, N, P, N) of a matrix that stand for one offset of the table."""
        (height, width), (ry, rx) = self.grid, self.radius
        matrix = matrix.unflatten(3, self.grid).unflatten(1, self.grid)
        # first over the rows of n and m, then over their columns: (G, P, 2H-1, 2W-1)
        table = _sum_diagonals(matrix.permute(0, 3, 2, 5, 1, 4)).movedim(-1, 2)
        table = _sum_diagonals(table)
        for axis, size, radius in ((2, height, ry), (3, width, rx)):
            if self.boundary == 'zero':
                table = F.pad(table, pad_axis(axis, radius - (size - 1)))
            else:
                table = unwrap(wrap(table, axis, size), axis, radius)
        return table


def matrix_rows(
    table: Tensor, positions: tuple[Tensor, Tensor], grid: tuple[int, int], boundary: str
) -> Tensor:
    """Return E_p[m - n] for chosen n, given by their rows and columns, and all m.

    Args:
        table: Tables E, (G, P, 2*ry+1, 2*rx+1).
        positions: Rows and columns of K positions.
        grid: (H, W).
        boundary: ``'zero'`` or ``'circular'``.

    Returns:
        Tensor: (G, P, K, H, W).
    """
    starts = [size - 1 - place for size, place in zip(grid, positions)]
    return _windows(table, grid, boundary)[:, :, starts[0], starts[1]]


def full_matrix(table: Tensor, grid: tuple[int, int], boundary: str) -> Tensor:
    """Build the matrices (G, N, P, N) of the correlations with tables (G, P, ...)."""
    windows = _windows(table, grid, boundary).flip(2, 3).permute(0, 2, 3, 1, 4, 5)
    positions = math.prod(grid)
    return windows.reshape(table.shape[0], positions, table.shape[1], positions)


def _windows(table: Tensor, grid: tuple[int, int], boundary: str) -> Tensor:
    """Return the windows of tables, (G, P, H, W, H, W), that positions of a grid see.

    The last position comes first: a window that starts at offset -n holds the row
    of position n.
    """
    for axis, size in zip((2, 3), grid):
        # every offset between two positions, and no other
        if boundary == 'zero':
            table = F.pad(table, pad_axis(axis, size - 1 - table.shape[axis] // 2))
        else:
            table = unwrap(wrap(table, axis, size), axis, size - 1)
    return table.unfold(2, grid[0], 1).unfold(3, grid[1], 1)


def _attention_kernel(maps: Tensor, x: Tensor) -> Tensor:
    """Return the products (B, N, N) of all positions of (B, C, H, W) with all others."""
    return torch.bmm(maps.flatten(-2).transpose(1, 2), x.flatten(-2))


def _gradient_of_matrix(weights: Tensor, attention: Tensor) -> Tensor:
    """Return sum_b weights[b, p, n] attention[b, n, m], (N, P, N), of one head."""
    return torch.bmm(weights.flatten(-2).permute(2, 1, 0), attention.transpose(0, 1))


def _sum_diagonals(square: Tensor) -> Tensor:
    """Sum (..., n, n) along its diagonals: (..., 2n-1), from offset 1-n to n-1."""
    n = square.shape[-1]
    # Rows, last one first, that are one column longer than those they are read
    # in again shift by one more each time: diagonals become columns.
    rows = F.pad(square.flip(-2), (0, n)).flatten(-2)
    return rows[..., : n * (2 * n - 1)].unflatten(-1, (n, 2 * n - 1)).sum(-2)
