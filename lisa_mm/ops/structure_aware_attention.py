"""Structure-aware attention: the operator and its two halves."""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import BOUNDARIES, check_devices, check_equal, check_map, check_option, check_table
from .correlation import (
    choose_impl,
    compute_dtype,
    correlation_matrix,
    fft_size,
    full_precision,
    inverse,
    table_spectrum,
)


def structural_patterns(
    query: Tensor, key: Tensor, encoder: Tensor, boundary: str = 'zero', impl: str = 'auto'
) -> Tensor:
    r"""Describe the attention kernel of every query by P numbers.

    The attention kernel :math:`a_{nm} = q_n \cdot k_m` is weighted by each
    pattern encoder :math:`E_p`, a table over relative positions:

    .. math:: s_{np} = \sum_m a_{nm} E_p(m - n) = q_n \cdot (E_p * k)_n

    ``'dense'`` computes the first form, ``'fft'`` the second.

    Args:
        query: (B, G, dk, H, W).
        key: (B, G, dk, H, W).
        encoder: (G, P, 2*ry+1, 2*rx+1), the offset (0, 0) in the middle.
        boundary: ``'zero'`` or ``'circular'``, see
            :func:`~lisa_mm.ops.correlate`. Defaults to ``'zero'``.
        impl: ``'dense'``, ``'fft'`` or ``'auto'``. Defaults to ``'auto'``.

    Returns:
        Tensor: Patterns, (B, G, P, H, W), in the dtype of ``query``.

    Raises:
        TypeError: If an argument is not a real floating-point tensor.
        ValueError: If a shape, an option or a device does not fit.

    Example:
        >>> import torch
        >>> from lisa_mm.ops import structural_patterns
        >>> query, key = torch.randn(2, 1, 2, 8, 7, 9).unbind()
        >>> structural_patterns(query, key, torch.randn(2, 4, 5, 5)).shape
        torch.Size([1, 2, 4, 7, 9])
    """
    check_map('query', query, 'B G dk H W')
    check_map('key', key, 'B G dk H W')
    check_equal('query', query, 'key', key, 'BGCHW')
    check_table('encoder', encoder, query.shape[1], 'query')
    check_option('boundary', boundary, BOUNDARIES)
    check_devices(query=query, key=key, encoder=encoder)
    grid = query.shape[-2:]
    dtype = compute_dtype(query, key, encoder)
    with full_precision(query):
        q, k, encoder = query.to(dtype), key.to(dtype), encoder.to(dtype)
        if choose_impl(impl, grid) == 'dense':
            attention = torch.einsum('bgcn,bgcm->bgnm', q.flatten(-2), k.flatten(-2))
            matrix = correlation_matrix(encoder, grid, boundary)
            patterns = torch.einsum('bgnm,gpnm->bgpn', attention, matrix).unflatten(-1, grid)
        else:
            size = fft_size(grid, encoder, boundary)
            spectrum = torch.fft.rfft2(k, s=size)
            patterns = torch.stack(
                [
                    (q * inverse(spectrum * factor.unsqueeze(1), grid, size)).sum(dim=2)
                    for factor in table_spectrum(encoder, grid, size, boundary).unbind(1)
                ],
                dim=2,
            )
    return patterns.to(query.dtype)


def apply_patterns(
    patterns: Tensor, value: Tensor, decoder: Tensor, boundary: str = 'zero', impl: str = 'auto'
) -> Tensor:
    r"""Rebuild a kernel from the patterns and apply it to the values.

    The structure-aware kernel of position n is a sum of pattern decoders
    :math:`D_p`, weighted by the patterns found at n:

    .. math::
        K_{nm} = \sum_p s_{np} D_p(m - n), \qquad
        y_n = \sum_m K_{nm} v_m = \sum_p s_{np} (D_p * v)_n

    ``'dense'`` builds the kernel, ``'fft'`` computes the last form.

    Args:
        patterns: (B, G, P, H, W), from :func:`structural_patterns`.
        value: (B, G, dv, H, W).
        decoder: (G, P, 2*ry+1, 2*rx+1), the offset (0, 0) in the middle.
        boundary: ``'zero'`` or ``'circular'``, see
            :func:`~lisa_mm.ops.correlate`. Defaults to ``'zero'``.
        impl: ``'dense'``, ``'fft'`` or ``'auto'``. Defaults to ``'auto'``.

    Returns:
        Tensor: (B, G, dv, H, W), in the dtype of ``value``.

    Raises:
        TypeError: If an argument is not a real floating-point tensor.
        ValueError: If a shape, an option or a device does not fit.

    Example:
        >>> import torch
        >>> from lisa_mm.ops import apply_patterns
        >>> patterns, value = torch.randn(1, 2, 4, 7, 9), torch.randn(1, 2, 8, 7, 9)
        >>> apply_patterns(patterns, value, torch.randn(2, 4, 5, 5)).shape
        torch.Size([1, 2, 8, 7, 9])
    """
    check_map('patterns', patterns, 'B G P H W')
    check_map('value', value, 'B G dv H W')
    check_equal('patterns', patterns, 'value', value, 'BGHW')
    check_table('decoder', decoder, value.shape[1], 'value')
    if patterns.shape[2] != decoder.shape[1]:
        raise ValueError(
            f'patterns and decoder must agree in the number of patterns, got '
            f'{patterns.shape[2]} in patterns (dimension 2) and {decoder.shape[1]} in '
            f'decoder (dimension 1)'
        )
    check_option('boundary', boundary, BOUNDARIES)
    check_devices(patterns=patterns, value=value, decoder=decoder)
    grid = value.shape[-2:]
    dtype = compute_dtype(patterns, value, decoder)
    with full_precision(value):
        s, v, decoder = patterns.to(dtype), value.to(dtype), decoder.to(dtype)
        if choose_impl(impl, grid) == 'dense':
            matrix = correlation_matrix(decoder, grid, boundary)
            kernel = torch.einsum('bgpn,gpnm->bgnm', s.flatten(-2), matrix)
            out = torch.einsum('bgnm,bgcm->bgcn', kernel, v.flatten(-2)).unflatten(-1, grid)
        else:
            size = fft_size(grid, decoder, boundary)
            spectrum = torch.fft.rfft2(v, s=size)
            factors = table_spectrum(decoder, grid, size, boundary)
            out = 0
            for pattern, factor in zip(s.unbind(2), factors.unbind(1)):
                context = inverse(spectrum * factor.unsqueeze(1), grid, size)
                out = out + pattern.unsqueeze(2) * context
    return out.to(value.dtype)


def structure_aware_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    encoder: Tensor,
    decoder: Tensor,
    boundary: str = 'zero',
    impl: str = 'auto',
) -> Tensor:
    """Attend with kernels that are rebuilt from their structural patterns.

    The composition of :func:`structural_patterns` and :func:`apply_patterns`,
    with the patterns kept in at least float32. With ``impl='dense'`` it is
    structure-aware attention as defined, O(N^2) in the N = H * W positions;
    with ``impl='fft'`` its lightweight form, O(P C N log N), which builds
    neither of the two kernels. Nothing is normalised here.

    Args:
        query: (B, G, dk, H, W).
        key: (B, G, dk, H, W).
        value: (B, G, dv, H, W).
        encoder: Pattern encoders, (G, P, 2*ry+1, 2*rx+1), the offset (0, 0)
            in the middle.
        decoder: Pattern decoders, likewise; their extent may differ.
        boundary: ``'zero'`` or ``'circular'``, see
            :func:`~lisa_mm.ops.correlate`. Defaults to ``'zero'``.
        impl: ``'dense'``, ``'fft'`` or ``'auto'``. Defaults to ``'auto'``.

    Returns:
        Tensor: (B, G, dv, H, W), in the dtype of ``value``.

    Raises:
        TypeError: If an argument is not a real floating-point tensor.
        ValueError: If a shape, an option or a device does not fit.

    Example:
        >>> import torch
        >>> from lisa_mm.ops import structure_aware_attention
        >>> query, key, value = torch.randn(3, 1, 2, 8, 7, 9).unbind()
        >>> encoder, decoder = torch.randn(2, 4, 5, 5), torch.randn(2, 4, 9, 3)
        >>> out = structure_aware_attention(query, key, value, encoder, decoder)
        >>> out.shape
        torch.Size([1, 2, 8, 7, 9])
        >>> args = query, key, value, encoder, decoder
        >>> torch.allclose(out, structure_aware_attention(*args, impl='fft'), atol=1e-3)
        True
    """
    check_map('query', query, 'B G dk H W')
    check_map('value', value, 'B G dv H W')
    # Rounding the patterns to half precision between the halves would lose
    # digits, or overflow, for nothing.
    wide = query.to(compute_dtype(query))
    patterns = structural_patterns(wide, key, encoder, boundary, impl)
    return apply_patterns(patterns, value, decoder, boundary, impl)
