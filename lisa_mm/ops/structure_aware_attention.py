"""Structure-aware attention: the operator and its two halves."""

from __future__ import annotations

from torch import Tensor

from . import _operators
from ._checks import (
    BOUNDARIES,
    IMPLS,
    check_devices,
    check_equal,
    check_map,
    check_option,
    check_table,
)
from ._precision import compute_dtype


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
    check_option('impl', impl, IMPLS)
    check_devices(query=query, key=key, encoder=encoder)
    return _operators.structural_patterns(query, key, encoder, boundary, impl)


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
    check_option('impl', impl, IMPLS)
    check_devices(patterns=patterns, value=value, decoder=decoder)
    return _operators.apply_patterns(patterns, value, decoder, boundary, impl)


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
