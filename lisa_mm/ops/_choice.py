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
# Printed by `python tools/analysis_tools/benchmark_operator.py --calibrate --device DEVICE`.
COSTS = {
    # 2 threads of an x86 CPU with AVX2, torch 2.11: at 96 shapes from 4x4 to 28x28, what is chosen
    # took 1.02 times as long as the better one on average, 1.64 times at worst
    'cpu': dict(dense=(157e3, 18.2e3, 0.0994, 1.93), fft=(244e3, 42.3e3, 0.201)),
    # not measured yet: a guess, by launches for small shapes and by bandwidth for large ones
    'cuda': dict(dense=(5e4, 4e4, 5e-4, 4e-3), fft=(2e5, 5e4, 5e-4)),
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
        dict: For ``'dense'`` 1, the steps (heads), the products of positions in
        all channels and patterns, and the entries of the matrices; for
        ``'fft'`` 1, the steps (patterns), and s log2 s for every transform of
        s points, the tables' included.
    """
    samples, heads, channels, height, width = x_shape
    patterns = table_shape[1]
    pairs = heads * (height * width) ** 2
    size = fft_size((height, width), (table_shape[2] // 2, table_shape[3] // 2), boundary)
    points = size[0] * size[1]
    transforms = heads * (samples * channels * (patterns + 1) + patterns)
    return dict(
        dense=(1, heads, pairs * samples * (channels + patterns), pairs * patterns),
        fft=(1, patterns, transforms * points * math.log2(max(points, 2))),
    )
