"""Which implementation ``impl='auto'`` takes."""

from __future__ import annotations

import math

import torch

from ._dense import DenseCorrelation
from ._fourier import FourierCorrelation, fft_size

IMPLEMENTATIONS = {'dense': DenseCorrelation, 'fft': FourierCorrelation}

# Beyond this many positions the matrices of the dense implementation are not worth their memory.
MAX_DENSE_TOKENS = 1024

# Nanoseconds per unit of work, see `count_work`, by type of device; others take those of a GPU.
COSTS = {
    'cpu': dict(dense=(2e5, 0.4, 2.0), fft=(2e5, 0.4)),
    'cuda': dict(dense=(2e5, 0.4, 2.0), fft=(2e5, 0.4)),
}


def choose_impl(
    impl: str,
    x_shape: tuple[int, ...],
    table_shape: tuple[int, ...],
    boundary: str,
    device: torch.device,
) -> str:
    """Resolve ``'auto'``.

    Args:
        impl: ``'dense'``, ``'fft'`` or ``'auto'``.
        x_shape: Shape of the maps to correlate, (B, G, C, H, W).
        table_shape: Shape of the tables, (G, P, 2*ry+1, 2*rx+1).
        boundary: ``'zero'`` or ``'circular'``.
        device: Where they are.
    """
    if impl != 'auto':
        return impl
    if x_shape[-2] * x_shape[-1] > MAX_DENSE_TOKENS:
        return 'fft'
    costs = COSTS['cpu' if device.type == 'cpu' else 'cuda']
    expected = {
        name: sum(units * cost for units, cost in zip(work, costs[name]))
        for name, work in count_work(x_shape, table_shape, boundary).items()
    }
    return min(expected, key=expected.get)


def count_work(
    x_shape: tuple[int, ...], table_shape: tuple[int, ...], boundary: str
) -> dict[str, tuple[float, ...]]:
    """Count what half the operator has to do, in the units of ``COSTS``.

    Returns:
        dict: For ``'dense'`` the steps (heads), the products of positions with
        channels, and those with patterns; for ``'fft'`` the steps (patterns)
        and s log2 s for every transform of s points, the tables' included.
    """
    samples, heads, channels, height, width = x_shape
    patterns = table_shape[1]
    pairs = heads * (height * width) ** 2
    size = fft_size((height, width), (table_shape[2] // 2, table_shape[3] // 2), boundary)
    points = size[0] * size[1]
    transforms = heads * (samples * channels * (patterns + 1) + patterns)
    return dict(
        dense=(float(heads), float(pairs * samples * channels), float(pairs * samples * patterns)),
        fft=(float(patterns), transforms * points * math.log2(max(points, 2))),
    )
