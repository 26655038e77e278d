"""Correlation of maps with tables over relative offsets.

``correlate`` is the one primitive of structure-aware attention. It has two
implementations that agree to rounding: ``dense`` builds the matrix of the
correlation (block Toeplitz for ``boundary='zero'``, block circulant for
``'circular'``) and is quadratic in the number of positions, ``fft`` multiplies
spectra and is log-linear.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ._checks import BOUNDARIES, IMPLS, check_devices, check_map, check_option, check_table

# Up to this many positions the dense products are the faster ones, roughly: on a CPU the two
# implementations cross between 10 x 10 and 14 x 14, depending on the number of patterns.
MAX_DENSE_TOKENS = 128


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
        >>> correlate(x, right_neighbour).flatten().tolist()
        [2.0, 3.0, 4.0, 0.0]
        >>> correlate(x, right_neighbour, boundary='circular').flatten().tolist()
        [2.0, 3.0, 4.0, 1.0]
    """
    check_map('x', x, 'B G C H W')
    check_table('table', table, x.shape[1], 'x')
    check_option('boundary', boundary, BOUNDARIES)
    check_devices(x=x, table=table)
    grid = x.shape[-2:]
    dtype = compute_dtype(x, table)
    with full_precision(x):
        x_, table = x.to(dtype), table.to(dtype)
        if choose_impl(impl, grid) == 'dense':
            matrix = correlation_matrix(table, grid, boundary)
            out = torch.einsum('bgcm,gpnm->bgcpn', x_.flatten(-2), matrix)
            out = out.unflatten(-1, grid)
        else:
            size = fft_size(grid, table, boundary)
            spectrum = torch.fft.rfft2(x_, s=size).unsqueeze(3)
            spectrum = spectrum * table_spectrum(table, grid, size, boundary).unsqueeze(1)
            out = inverse(spectrum, grid, size)
    return out.to(x.dtype)


def choose_impl(impl: str, grid: tuple[int, int]) -> str:
    """Check ``impl`` and resolve ``'auto'`` for a grid (H, W)."""
    check_option('impl', impl, IMPLS)
    if impl != 'auto':
        return impl
    return 'dense' if grid[0] * grid[1] <= MAX_DENSE_TOKENS else 'fft'


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the dtype to compute in: the widest given, at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def full_precision(tensor: Tensor) -> torch.autocast:
    """Return a context in which autocast leaves the dtypes alone.

    Half-precision FFTs exist for powers of two on CUDA only, and sums over all
    positions of a grid lose too much in half precision.
    """
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def correlation_matrix(table: Tensor, grid: tuple[int, int], boundary: str) -> Tensor:
    """Build the matrices of the correlation with each table.

    Args:
        table: (G, P, 2*ry+1, 2*rx+1).
        grid: (H, W), with N = H * W positions in row-major order.
        boundary: ``'zero'`` or ``'circular'``.

    Returns:
        Tensor: (G, P, N, N); entry [n, m] is the weight of position m in the
        output at position n, ``table[m - n]``.
    """
    for axis, size in enumerate(grid, start=2):
        radius = table.shape[axis] // 2
        if boundary == 'zero':
            # every offset between two positions, and no other
            margin = size - 1 - radius
            pad = (0, 0, margin, margin) if axis == 2 else (margin, margin)
            table = F.pad(table, pad)
        else:
            cell = torch.arange(1 - size, size, device=table.device) % size
            table = _wrap(table, axis, size).index_select(axis, cell)
    # A window of the table that starts at offset -n holds the row of position n.
    height, width = grid
    windows = table.unfold(2, height, 1).unfold(3, width, 1).flip(2, 3)
    return windows.reshape(*table.shape[:2], height * width, height * width)


def fft_size(grid: tuple[int, int], table: Tensor, boundary: str) -> tuple[int, int]:
    """Return the size (H', W') of the transforms that correlate on a grid.

    Wrap-around needs the grid itself. A zero boundary needs room for the
    largest offset that can occur, once: what leaves the grid at one side comes
    back at the other, so that one margin serves both.
    """
    if boundary == 'circular':
        return tuple(grid)
    return tuple(
        next_fast_size(size + min(extent // 2, size - 1))
        for size, extent in zip(grid, table.shape[-2:])
    )


def next_fast_size(size: int) -> int:
    """Return the least product of 2, 3, 5 and 7 that is at least ``size``.

    Example:
        >>> from lisa_mm.ops.correlation import next_fast_size
        >>> [next_fast_size(size) for size in (1, 11, 83, 361)]
        [1, 12, 84, 375]
    """
    while True:
        rest = size
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 1


def table_spectrum(
    table: Tensor, grid: tuple[int, int], size: tuple[int, int], boundary: str
) -> Tensor:
    """Return the factors that correlate a spectrum with each table.

    Args:
        table: (G, P, 2*ry+1, 2*rx+1).
        grid: (H, W) of the maps.
        size: (H', W') of the transforms, from :func:`fft_size`.
        boundary: ``'zero'`` or ``'circular'``.

    Returns:
        Tensor: Complex (G, P, H', W'//2+1).
    """
    # A correlation is a convolution with the mirrored table. Mirroring here
    # spares a complex conjugate later.
    table = table.flip(2, 3)
    for axis in (2, 3):
        if boundary == 'zero':
            # offsets that no two positions of the grid have
            excess = table.shape[axis] // 2 - (grid[axis - 2] - 1)
            if excess > 0:
                table = table.narrow(axis, excess, table.shape[axis] - 2 * excess)
        table = _wrap(table, axis, size[axis - 2])
    return torch.fft.rfft2(table)


def inverse(spectrum: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Transform back to maps of the given size and cut out the grid."""
    return torch.fft.irfft2(spectrum, s=size)[..., : grid[0], : grid[1]]


def _wrap(table: Tensor, axis: int, size: int) -> Tensor:
    """Sum the entries whose offsets agree modulo ``size``, offset 0 first."""
    radius = table.shape[axis] // 2
    cell = torch.arange(-radius, radius + 1, device=table.device) % size
    shape = list(table.shape)
    shape[axis] = size
    return table.new_zeros(shape).index_add(axis, cell, table)
