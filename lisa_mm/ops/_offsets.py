"""Entries of tables and the cells of a periodic grid that their offsets fall on, per axis."""

from __future__ import annotations

import torch
from torch import Tensor


def wrap(table: Tensor, axis: int, size: int) -> Tensor:
    """Sum the entries whose offsets agree modulo ``size``; offset 0 comes first.

    Args:
        table: Tables with an odd extent along ``axis``, offset 0 in the middle.
        axis: The axis.
        size: Number of cells.
    """
    shape = list(table.shape)
    shape[axis] = size
    cells = _cells(table.shape[axis] // 2, size, table.device)
    return table.new_zeros(shape).index_add(axis, cells, table)


def unwrap(cells: Tensor, axis: int, radius: int) -> Tensor:
    """Give every entry of a table the value of its cell: the adjoint of :func:`wrap`."""
    return cells.index_select(axis, _cells(radius, cells.shape[axis], cells.device))


def pad_axis(axis: int, margin: int) -> tuple[int, ...]:
    """Return what makes ``F.pad`` add a margin at both ends of axis 2 or 3, of four."""
    return (margin, margin) if axis == 3 else (0, 0, margin, margin)


def _cells(radius: int, size: int, device: torch.device) -> Tensor:
    return torch.arange(-radius, radius + 1, device=device) % size
