"""Tables over relative offsets: from one resolution to another, and what is seen of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ._checks import check_table
from ._precision import compute_dtype, full_precision


def extend_table(table: Tensor, radius: tuple[int, int]) -> Tensor:
    """Give tables another extent and leave every offset its value.

    Args:
        table: (G, P, 2*ry+1, 2*rx+1), the offset (0, 0) in the middle.
        radius: The half extents (ry', rx') to give them, in positions.

    Returns:
        Tensor: (G, P, 2*ry'+1, 2*rx'+1). Offsets that ``table`` does not have
        are zero, offsets beyond the new extent are dropped.

    Raises:
        TypeError: If ``table`` is not a real floating-point tensor.
        ValueError: If ``table`` is not a set of tables or ``radius`` is
            negative.

    Example:
        >>> import torch
        >>> from lisa_mm.ops import extend_table
        >>> extend_table(torch.ones(1, 1, 1, 3), (1, 0)).tolist()
        [[[[0.0], [1.0], [0.0]]]]
    """
    _check(table, radius)
    margin_y, margin_x = (r - size // 2 for r, size in zip(radius, table.shape[2:]))
    return F.pad(table, (margin_x, margin_x, margin_y, margin_y))


def interpolate_table(
    table: Tensor, stretch: tuple[float, float], radius: tuple[int, int]
) -> Tensor:
    """Stretch tables, so that they cover the same part of another grid.

    The value at offset d is taken at ``d / stretch`` of the old table, by
    linear interpolation, smoothed where the table shrinks; beyond its ends the
    old table is zero. The values are divided by the product of the two stretch
    factors: the response to a constant map then stays what it was.

    Args:
        table: (G, P, 2*ry+1, 2*rx+1), the offset (0, 0) in the middle.
        stretch: Factors (fy, fx), new over old grid.
        radius: The half extents (ry', rx') to give them, in positions.

    Returns:
        Tensor: (G, P, 2*ry'+1, 2*rx'+1). A stretch of one is
        :func:`extend_table`. In the dtype of ``table``, computed in at least
        float32.

    Raises:
        TypeError: If ``table`` is not a real floating-point tensor.
        ValueError: If ``table`` is not a set of tables, ``radius`` is negative
            or ``stretch`` is not positive.

    Example:
        >>> import torch
        >>> from lisa_mm.ops import interpolate_table
        >>> table = torch.tensor([0.0, 1.0, 0.0]).view(1, 1, 1, 3)
        >>> interpolate_table(table, (1, 2), (0, 2)).flatten().tolist()
        [0.0, 0.25, 0.5, 0.25, 0.0]
    """
    _check(table, radius)
    if min(stretch) <= 0:
        raise ValueError(f'stretch must be two positive factors (fy, fx), got {stretch}')
    dtype = compute_dtype(table)
    with full_precision(table):
        rows, columns = (
            _interpolation_matrix(size // 2, r, factor, table.device, dtype)
            for size, r, factor in zip(table.shape[2:], radius, stretch)
        )
        return (rows @ table.to(dtype) @ columns.T).to(table.dtype)


def seen_energy(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the share of a table that each position of a grid sees, by energy.

    A position sees the entries whose offsets lead from it to a position on the
    grid. The energy is the sum of their squares: the power of what the
    position gets, with boundary ``'zero'``, of maps that are white noise.

    Args:
        table: (G, P, 2*ry+1, 2*rx+1), the offset (0, 0) in the middle.
        grid: (H, W).

    Returns:
        Tensor: (G, P, H, W), from 0 to 1, in at least float32; 0 of a table
        that is zero.

    Raises:
        TypeError: If ``table`` is not a real floating-point tensor.
        ValueError: If ``table`` is not a set of tables.

    Example:
        >>> import torch
        >>> from lisa_mm.ops import seen_energy
        >>> seen_energy(torch.ones(1, 1, 1, 5), (1, 3)).flatten()
        tensor([0.6000, 0.6000, 0.6000])
    """
    _check(table, (0, 0))
    energy = table.to(compute_dtype(table)).square()
    seen = energy
    for axis, size in zip((2, 3), grid):
        extent = table.shape[axis]
        # of each place on the axis the first entry that it sees, and the one behind the last
        first = extent // 2 - (table.new_ones(size, dtype=torch.long).cumsum(0) - 1)
        end = (first + size).clamp_max(extent)
        sums = F.pad(seen.cumsum(axis), (1, 0) if axis == 3 else (0, 0, 1, 0))
        seen = sums.index_select(axis, end) - sums.index_select(axis, first.clamp_min(0))
    total = energy.sum((2, 3), keepdim=True)
    return (seen / total.clamp_min(torch.finfo(total.dtype).tiny)).clamp_min(0)


def _check(table: Tensor, radius: tuple[int, int]) -> None:
    groups = table.shape[0] if isinstance(table, Tensor) and table.dim() else 0
    check_table('table', table, groups, 'table')
    if min(radius) < 0:
        raise ValueError(f'radius must be two half extents (ry, rx) >= 0, got {radius}')


def _interpolation_matrix(
    old: int, new: int, factor: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return the weights (2*new+1, 2*old+1) of old entries in new ones."""
    sources = torch.arange(-old, old + 1, device=device, dtype=dtype)
    targets = torch.arange(-new, new + 1, device=device, dtype=dtype) / factor
    # A shrinking table takes the mean over the entries that it skips: a hat as
    # wide as the step between targets.
    width = max(1.0, 1.0 / factor)
    hats = (1 - (targets[:, None] - sources).abs() / width).clamp(min=0) / width
    return hats / factor
