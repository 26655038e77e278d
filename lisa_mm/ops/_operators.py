"""The differentiable operators below the public functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ._choice import IMPLEMENTATIONS, choose_impl
from ._dense import DenseCorrelation
from ._fourier import FourierCorrelation
from ._precision import compute_dtype, full_precision
from ._real_fourier import RealFourierCorrelation
from ._registration import define_operator, refuse


def prepare_table(
    table: Tensor, x: Tensor, boundary: str, impl: str, dtype: torch.dtype
) -> DenseCorrelation | FourierCorrelation | RealFourierCorrelation:
    """Choose an implementation and do what depends on the table and the grid alone.

    Whatever ``impl``, a graph that is exported to ONNX gets real matrix products.

    Args:
        table: (G, P, 2*ry+1, 2*rx+1).
        x: Maps that will be correlated, (B, G, C, H, W).
        boundary: ``'zero'`` or ``'circular'``.
        impl: ``'dense'``, ``'fft'`` or ``'auto'``.
        dtype: What to compute in.
    """
    if torch.onnx.is_in_onnx_export():
        implementation = RealFourierCorrelation
    else:
        name = choose_impl(impl, x.shape, table.shape, boundary, x.device)
        implementation = IMPLEMENTATIONS[name]
    with full_precision(x):
        return implementation(table.to(dtype), tuple(x.shape[-2:]), boundary)


def _define(name: str, tensors: str, method: str, like: int, shape: Callable) -> Callable:
    """Define an operator that a method of both implementations computes.

    Args:
        name: Name of the operator.
        tensors: Names of the tensors that it takes. The last but one are the
            maps to correlate, the last are the tables.
        method: Name of the method. One with ``_backward`` behind it gives the
            gradients.
        like: Index of the tensor that says the dtype of the result.
        shape: Gives the shape of the result from those of the tensors.
    """
    names = tensors.split()
    arguments = ', '.join(f'Tensor {tensor}' for tensor in names) + ', str boundary, str impl'

    def start(inputs, grads=()):
        *maps, table, boundary, impl = inputs
        dtype = compute_dtype(*maps, table)
        correlation = prepare_table(table, maps[-1], boundary, impl, dtype)
        return correlation, [tensor.to(dtype) for tensor in (*grads, *maps)]

    def forward(*inputs):
        with full_precision(inputs[0]):
            correlation, maps = start(inputs)
            out = getattr(correlation, method)(*maps)
            return out.to(inputs[like].dtype).contiguous()

    def fake_forward(*inputs):
        shapes = [tensor.shape for tensor in inputs[:-2]]
        return inputs[like].new_empty(shape(*shapes))

    def forward_gradients(grad, *inputs):
        *inputs, wanted = inputs
        with full_precision(grad):
            correlation, maps = start(inputs, [grad])
            found = getattr(correlation, method + '_backward')(*maps, wanted)
            return tuple(
                tensor.new_empty(0) if found is None else found.to(tensor.dtype).contiguous()
                for tensor, found in zip(inputs, found)
            )

    def fake_gradients(grad, *inputs):
        wanted = inputs[-1]
        return tuple(
            tensor.new_empty(tensor.shape if wants else 0) for tensor, wants in zip(inputs, wanted)
        )

    def backward(inputs, grads, wanted):
        found = gradients(grads[0], *inputs, wanted)
        return [grad if wants else None for grad, wants in zip(found, wanted)]

    returns = ', '.join('Tensor' for _ in names)
    gradients = define_operator(
        f'{name}_backward',
        f'(Tensor grad, {arguments}, bool[] wanted) -> ({returns})',
        forward_gradients,
        fake_gradients,
        refuse,
    )
    operator = define_operator(name, f'({arguments}) -> Tensor', forward, fake_forward, backward)

    def call(*inputs):
        # an opaque operator means nothing to ONNX
        return (forward if torch.onnx.is_in_onnx_export() else operator)(*inputs)

    return call


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    encoder: DenseCorrelation | FourierCorrelation,
    decoder: DenseCorrelation | FourierCorrelation,
    factors: Tensor | float = 1.0,
) -> Tensor:
    """Compute structure-aware attention with prepared tables, without gradients.

    Args:
        query: (B, G, dk, H, W).
        key: (B, G, dk, H, W).
        value: (B, G, dv, H, W).
        encoder: From :func:`prepare_table`.
        decoder: From :func:`prepare_table`.
        factors: Of the patterns, (G, P, H, W). Defaults to 1.
    """
    dtype = compute_dtype(query, key, value)
    with full_precision(value):
        patterns = encoder.reduce_channels(query.to(dtype), key.to(dtype)) * factors
        return decoder.reduce_patterns(patterns, value.to(dtype)).to(value.dtype)


correlate = _define(
    'correlate',
    'x table',
    method='correlate',
    like=0,
    shape=lambda x, table: (*x[:3], table[1], *x[3:]),
)
structural_patterns = _define(
    'structural_patterns',
    'query key encoder',
    method='reduce_channels',
    like=0,
    shape=lambda query, key, encoder: (*key[:2], encoder[1], *key[3:]),
)
apply_patterns = _define(
    'apply_patterns',
    'patterns value decoder',
    method='reduce_patterns',
    like=1,
    shape=lambda patterns, value, decoder: value,
)
