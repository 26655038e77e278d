"""What the operator computes in, whatever the dtypes of its arguments."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the dtype to compute in: the widest given, at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def full_precision(tensor: Tensor) -> contextlib.AbstractContextManager:
    """Return a context in which autocast leaves the dtypes alone.

    Half-precision FFTs exist for powers of two on CUDA only, and sums over all
    positions of a grid lose too much in half precision.
    """
    if tensor.device.type == 'meta':  # where there is no autocast
        return contextlib.nullcontext()
    return torch.autocast(device_type=tensor.device.type, enabled=False)
