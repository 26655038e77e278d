"""Correlation of maps with tables over relative offsets: the primitive of the operator."""

from __future__ import annotations

from torch import Tensor

from . import _operators
from ._checks import BOUNDARIES, IMPLS, check_devices, check_map, check_option, check_table


def correlate(x: Tensor, table: Tensor, boundary: str = 'zero', impl: str = 'auto') -> Tensor:
    r"""Correlate maps with every table of their head.

    With :math:`n` a position of the grid and :math:`d` an offset of the table,

    .. math:: out_p[n] = \sum_d table_p[d] \, x[n + d]

    Args:
        x: Maps, (B, G, C, H, W): batch, heads, channels of a head, grid.
        table: Tables over relative offsets, (G, P, 2*ry+1, 2*rx+1), with the
            offset (0, 0) in the middle. May be larger than the grid.
        boundary: What ``x`` is outside the grid: 0 (``'zero'``) or wrapped
            around (``'circular'``). Defaults to ``'zero'``.
        impl: ``'dense'``, ``'fft'``, or ``'auto'``, which takes the one that
            is expected to be faster. Defaults to ``'auto'``.

    Returns:
        Tensor: (B, G, C, P, H, W), in the dtype of ``x``. Half precision is
        computed in float32, under autocast too.

    Raises:
        TypeError: If an argument is not a real floating-point tensor.
        ValueError: If a shape, an option or a device does not fit.

    Example:
        >>> import torch
        >>> from lisa_mm.ops import correlate
        >>> x = torch.arange(1.0, 5.0).view(1, 1, 1, 1, 4)
        >>> right_neighbour = torch.tensor([0.0, 0.0, 1.0]).view(1, 1, 1, 3)
        >>> correlate(x, right_neighbour, impl='dense').flatten().tolist()
        [2.0, 3.0, 4.0, 0.0]
        >>> correlate(x, right_neighbour, 'circular', impl='dense').flatten().tolist()
        [2.0, 3.0, 4.0, 1.0]
    """
    check_map('x', x, 'B G C H W')
    check_table('table', table, x.shape[1], 'x')
    check_option('boundary', boundary, BOUNDARIES)
    check_option('impl', impl, IMPLS)
    check_devices(x=x, table=table)
    return _operators.correlate(x, table, boundary, impl)
