"""Checks of arguments that functions and modules share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BOUNDARIES = ('zero', 'circular')
IMPLS = ('auto', 'dense', 'fft')


def check_option(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        allowed = ', '.join(repr(choice) for choice in choices)
        raise ValueError(f'{name} must be one of {allowed}, got {value!r}')


def check_count(name: str, value: object, minimum: int = 1) -> None:
    """Raise ``ValueError`` unless ``value`` is an integer of at least ``minimum``."""
    if not _is_integer(value) or value < minimum:
        raise ValueError(f'{name} must be an integer of at least {minimum}, got {value!r}')


def check_odd(name: str, value: object) -> None:
    """Raise ``ValueError`` unless ``value`` is a positive odd integer."""
    if not _is_integer(value) or value < 1 or value % 2 == 0:
        raise ValueError(f'{name} must be a positive odd integer, got {value!r}')


def check_heads(embed_dims: object, num_heads: object) -> None:
    """Raise ``ValueError`` unless the channels can be shared out among the heads."""
    check_count('embed_dims', embed_dims)
    check_count('num_heads', num_heads)
    if embed_dims % num_heads:
        raise ValueError(
            f'embed_dims must be a multiple of num_heads, got embed_dims={embed_dims} '
            f'and num_heads={num_heads}'
        )


def to_pair(name: str, value: object, minimum: int) -> tuple[int, int]:
    """Return a size (y, x) that is given as one integer or as two.

    Raises:
        ValueError: If it is neither, or less than ``minimum``.
    """
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(pair) != 2 or any(not _is_integer(n) or n < minimum for n in pair):
        raise ValueError(
            f'{name} must be an integer of at least {minimum}, or two of them (y, x), got {value!r}'
        )
    return pair


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_map(name: str, tensor: object, dims: str) -> None:
    """Check a tensor of maps, whose last two dimensions are a grid.

    Args:
        name: Name of the argument, for the message.
        tensor: What the caller gave.
        dims: The dimensions that it has to have, like ``'B G C H W'``.

    Raises:
        TypeError: If it is not a real floating-point tensor.
        ValueError: If it has another number of dimensions, or an empty one.
    """
    shape = _check_float(name, tensor, dims)
    if 0 in shape[1:]:  # no samples are fine
        raise ValueError(f'{name} must not be empty, got shape {shape}')


def check_table(name: str, tensor: object, groups: int, map_name: str) -> None:
    """Check a set of tables over relative offsets, (G, P, 2*ry+1, 2*rx+1).

    Args:
        name: Name of the argument, for the message.
        tensor: What the caller gave.
        groups: Number of heads that the tables have to serve.
        map_name: Name of the argument that has these heads.

    Raises:
        TypeError: If it is not a real floating-point tensor.
        ValueError: If its shape is not that of a set of tables for the heads.
    """
    shape = _check_float(name, tensor, 'G P 2*ry+1 2*rx+1')
    if shape[0] != groups:
        raise ValueError(
            f'{name} must have one set of tables per head: {map_name} has {groups} heads '
            f'(dimension 1), {name} has shape {shape} (dimension 0)'
        )
    if shape[1] == 0:
        raise ValueError(f'{name} must hold at least one table per head, got shape {shape}')
    if shape[2] % 2 == 0 or shape[3] % 2 == 0:
        raise ValueError(
            f'{name} must have an odd extent in both directions, so that the zero offset '
            f'is in the middle, got shape {shape}'
        )


def check_equal(name: str, tensor: Tensor, other_name: str, other: Tensor, dims: str) -> None:
    """Raise ``ValueError`` unless two tensors agree in the dimensions named.

    Args:
        name: Name of the first argument, for the message.
        tensor: The first tensor.
        other_name: Name of the second argument.
        other: The second tensor.
        dims: Letters out of the five dimensions ``'BGCHW'``.
    """
    axes = ['BGCHW'.index(letter) for letter in dims]
    if any(tensor.shape[axis] != other.shape[axis] for axis in axes):
        raise ValueError(
            f'{name} and {other_name} must agree in dimensions {axes}, got shapes '
            f'{tuple(tensor.shape)} and {tuple(other.shape)}'
        )


def check_devices(**tensors: Tensor) -> None:
    """Raise ``ValueError`` unless all tensors are on one device."""
    devices = {name: tensor.device for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        found = ', '.join(f'{name} on {device}' for name, device in devices.items())
        raise ValueError(f'all tensors must be on one device, got {found}')


def _check_float(name: str, tensor: object, dims: str) -> tuple[int, ...]:
    if not isinstance(tensor, Tensor):
        raise TypeError(f'{name} must be a torch.Tensor, got {type(tensor).__name__}')
    if not torch.is_floating_point(tensor):
        raise TypeError(f'{name} must have a real floating-point dtype, got {tensor.dtype}')
    shape = tuple(tensor.shape)
    if len(shape) != len(dims.split()):
        takes = dims.replace(' ', ', ')
        raise ValueError(f'{name} must have shape ({takes}), got {shape}')
    return shape
