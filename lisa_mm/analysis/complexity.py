"""Counting multiply-adds, activations and parameters, FFTs and the operator included."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lisa_mm.ops._choice import choose_impl
from lisa_mm.ops._fourier import fft_size
from lisa_mm.registry import MODELS

aten = torch.ops.aten


@dataclass(frozen=True)
class Complexity:
    """What a part of a model costs.

    Args:
        name: Of the part, in the model.
        parameters: Number of its weights.
        multiply_adds: Of its convolutions, matrix products, attentions and
            FFTs; norms, activation functions and the like are left out, as in
            the figures that are usual in the field (Swin-T: 4.5 G).
        activations: Values that these write.
    """

    name: str
    parameters: int
    multiply_adds: float = 0.0
    activations: int = 0


def count_complexity(model: nn.Module, run: Callable[[], Any]) -> list[Complexity]:
    """Count what a run of a model costs, part by part.

    Parts are the children of the model; a backbone is taken apart into its own.
    A real transform of s points counts 1.25 s log2 s multiply-adds, a complex one
    twice that; structure-aware attention as its implementation computes it,
    see :func:`operator_multiply_adds`. Before PyTorch 2.4 that one is counted by
    the FFTs and products in it, which gives nearly the same.

    Args:
        model: The model.
        run: Runs it, such as ``lambda: model(images)``.

    Returns:
        list[Complexity]: The parts, and, last, the whole, named ``'total'``.
        What no part does is in the whole alone.

    Example:
        >>> import torch
        >>> from lisa_mm.analysis import count_complexity
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.ReLU())
        >>> for part in count_complexity(model, lambda: model(torch.zeros(1, 3, 10, 10))):
        ...     print(part)
        Complexity(name='0', parameters=32, multiply_adds=2400.0, activations=800)
        Complexity(name='1', parameters=0, multiply_adds=0.0, activations=0)
        Complexity(name='total', parameters=32, multiply_adds=2400.0, activations=800)
    """
    parts = {'total': model, **dict(_parts(model))}
    counts = {name: Complexity(name, _count(part)) for name, part in parts.items()}
    active = ['total']
    handles = []
    # on all modules of a part: heads are often run without a call of the head itself
    owners = {module: name for name, part in parts.items() for module in part.modules()}
    for module, name in owners.items():
        if name != 'total':
            handles.append(module.register_forward_pre_hook(lambda *_, n=name: active.append(n)))
            handles.append(module.register_forward_hook(lambda *_: active.pop() and None))

    def record(multiply_adds: float, activations: int) -> None:
        for name in set(active):
            counts[name] = replace(
                counts[name],
                multiply_adds=counts[name].multiply_adds + multiply_adds,
                activations=counts[name].activations + activations,
            )

    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        # With gradients on, and nothing that wants one: the operators are called as such then,
        # and nothing is kept for a backward pass.
        with torch.enable_grad(), _Counter(record), _no_fast_path():
            run()
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        for handle in handles:
            handle.remove()
    total = counts.pop('total')
    return [*counts.values(), total]


def operator_multiply_adds(
    maps: tuple[int, ...],
    table: tuple[int, ...],
    boundary: str,
    impl: str = 'auto',
    device: torch.device | str = 'cpu',
) -> float:
    """Count the multiply-adds of structure-aware attention.

    With N positions, C channels in all heads G, P patterns and transforms of s
    points, one half of the operator (patterns from queries and keys, or outputs
    from patterns and values) takes

    - ``'fft'``: C (1 + P) transforms of 1.25 s log2 s; 2 C P s for the products
      of half spectra; C P N to reduce channels or patterns;
    - ``'dense'``: N^2 (C + G P).

    Transforms of the tables are left out: in evaluation they are made once.

    Args:
        maps: Shape of the maps to correlate, (B, G, c, H, W), C = G c.
        table: Shape of the tables, (G, P, 2*ry+1, 2*rx+1).
        boundary: ``'zero'`` or ``'circular'``.
        impl: ``'dense'``, ``'fft'`` or ``'auto'``, as it decides for the
            device. Defaults to ``'auto'``.
        device: Defaults to ``'cpu'``.

    Example:
        >>> from lisa_mm.analysis import operator_multiply_adds
        >>> operator_multiply_adds((1, 4, 16, 14, 14), (4, 2, 5, 5), 'zero', 'dense')
        2765952
    """
    samples, heads, channels, height, width = maps
    patterns, tokens = table[1], height * width
    if choose_impl(impl, maps, table, boundary, torch.device(device)) == 'dense':
        return samples * tokens**2 * heads * (channels + patterns)
    correlations = _correlations(maps, table, boundary)
    return correlations + samples * heads * channels * patterns * tokens


def _correlations(maps: tuple[int, ...], table: tuple[int, ...], boundary: str) -> float:
    """Count the transforms and products of spectra, of all maps with all patterns."""
    patterns = table[1]
    points = math.prod(fft_size(maps[3:], (table[2] // 2, table[3] // 2), boundary))
    return math.prod(maps[:3]) * (
        (1 + patterns) * _real_transform(points, 1) + 2 * patterns * points
    )


def matched_mlp_ratios(backbone: dict[str, Any], changed: dict[str, Any]) -> tuple[float, ...]:
    """Find MLPs that give a backbone as many parameters as another.

    Args:
        backbone: Config of a :class:`~lisa_mm.models.LiSA`.
        changed: Config of one with the same channels and blocks, but another
            attention, say.

    Returns:
        tuple[float, ...]: What to set ``mlp_ratios`` of the second to: those
        that it has and the same number more, or less, in all stages.

    Raises:
        ValueError: If no MLPs are small enough.

    Example:
        >>> from lisa_mm.analysis import matched_mlp_ratios
        >>> changed = dict(type='LiSA', arch='tiny', attention=dict(type='DepthwiseConv'))
        >>> ratios = matched_mlp_ratios(dict(type='LiSA', arch='tiny'), changed)
        >>> [round(ratio, 2) for ratio in ratios]
        [6.25, 6.25, 6.25, 6.25]
    """
    own, other = (
        MODELS.build({**cfg, 'out_indices': (3,), '_scope_': 'lisa_mm'})
        for cfg in (backbone, changed)
    )
    mlps = [[block.mlp for block in stage] for stage in other.stages]
    # a hidden channel takes two rows of weights and a bias
    each = sum(mlp[0].in_channels * (2 * mlp[0].in_channels + 1) for stage in mlps for mlp in stage)
    more = (_count(own) - _count(other)) / each
    # with half a channel more: the backbone rounds down
    ratios = tuple(
        (stage[0][0].out_channels + 0.5) / stage[0][0].in_channels + more for stage in mlps
    )
    if any(ratio * stage[0][0].in_channels < 1 for ratio, stage in zip(ratios, mlps)):
        raise ValueError(
            f'the attention {changed.get("attention")} has too many parameters to be compared with '
            f'{backbone.get("attention", "the default")}: take a larger backbone'
        )
    return ratios


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class _Counter(TorchDispatchMode):
    """Calls ``record`` with the multiply-adds and outputs of every operator that counts."""

    def __init__(self, record: Callable[[float, int], None]) -> None:
        super().__init__()
        self.record = record

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        count = FORMULAS.get(str(func.overloadpacket))
        if count is not None:
            first = out[0] if isinstance(out, (tuple, list)) else out
            self.record(count(first, *args), first.numel())
        return out


@contextlib.contextmanager
def _no_fast_path() -> Iterator[None]:
    """Keep PyTorch's transformer layers from running as one opaque operator."""
    mha = getattr(torch.backends, 'mha', None)  # of later versions of PyTorch
    if mha is None:
        yield
        return
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)


def _real_transform(points: int, number: int) -> float:
    return 1.25 * number * points * math.log2(max(points, 2))


def _transform(real: Tensor, dims: Iterable[int]) -> float:
    points = math.prod(real.shape[dim] for dim in dims)
    return _real_transform(points, real.numel() // points)


def _attention(out: Tensor, query: Tensor, key: Tensor, *_: Any) -> float:
    return query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + out.shape[-1])


def _correlate(out: Tensor, maps: Tensor, table: Tensor, boundary: str, impl: str) -> float:
    shapes = tuple(maps.shape), tuple(table.shape)
    if choose_impl(impl, *shapes, boundary, maps.device) == 'dense':
        return out.numel() * maps.shape[3:].numel()
    return _correlations(*shapes, boundary)


def _half(out: Tensor, _: Tensor, maps: Tensor, table: Tensor, boundary: str, impl: str) -> float:
    return operator_multiply_adds(
        tuple(maps.shape), tuple(table.shape), boundary, impl, maps.device
    )


# Multiply-adds by operator, from the first output and the arguments.
FORMULAS = {
    'aten.convolution': lambda out, x, weight, bias, stride, padding, dilation, transposed, *_: (
        (x if transposed else out).numel() * weight[0].numel()
    ),
    'aten.mm': lambda out, a, b: out.numel() * a.shape[-1],
    'aten.bmm': lambda out, a, b: out.numel() * a.shape[-1],
    'aten.addmm': lambda out, bias, a, b: out.numel() * a.shape[-1],
    'aten.baddbmm': lambda out, bias, a, b: out.numel() * a.shape[-1],
    **{
        f'aten._scaled_dot_product_{kind}': _attention
        for kind in (
            'flash_attention',
            'flash_attention_for_cpu',
            'efficient_attention',
            'cudnn_attention',
        )
    },
    'aten._fft_r2c': lambda out, x, dims, *_: _transform(x, dims),
    'aten._fft_c2r': lambda out, x, dims, *_: _transform(out, dims),
    'aten._fft_c2c': lambda out, x, dims, *_: 2 * _transform(x, dims),
    'lisa_mm.structural_patterns': _half,
    'lisa_mm.apply_patterns': _half,
    'lisa_mm.correlate': _correlate,
}


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children that do something of their own, of a backbone those of it."""
    for name, child in model.named_children():
        if 'backbone' in name or isinstance(child, nn.ModuleList):
            yield from ((f'{name}.{inner}', part) for inner, part in _parts(child))
        else:
            yield name, child
