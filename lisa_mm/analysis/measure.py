"""Time and memory of functions on tensors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from inspect import signature

import torch
from torch.profiler import ProfilerActivity, profile


def interleaved_times(
    functions: Mapping[str, Callable[[], object]],
    device: torch.device | str = 'cpu',
    repeats: int = 5,
    budget: float | None = None,
) -> dict[str, list[float]]:
    """Time functions in turn, so that what slows a machine down meets all of them.

    Args:
        functions: The functions, by name. Each is called once before, to warm
            up.
        device: Device that they work on, a CPU or a GPU of CUDA's, which is
            waited for. Defaults to ``'cpu'``.
        repeats: Rounds. Defaults to 5.
        budget: Seconds after which a function is timed no more, once it has
            been timed at least once. Defaults to None: no limit.

    Returns:
        dict[str, list[float]]: Seconds of every call.

    Raises:
        ValueError: If ``repeats`` is not positive.

    Example:
        >>> from lisa_mm.analysis import interleaved_times
        >>> times = interleaved_times({'add': lambda: 1 + 1, 'pow': lambda: 2**64}, repeats=3)
        >>> {name: len(seconds) for name, seconds in times.items()}
        {'add': 3, 'pow': 3}
    """
    if repeats < 1:
        raise ValueError(f'repeats must be positive, got {repeats}')
    times = {name: [] for name in functions}
    spent = {name: _time(function, device) for name, function in functions.items()}
    for _ in range(repeats):
        for name, function in functions.items():
            if budget is not None and times[name] and spent[name] > budget:
                continue
            times[name].append(_time(function, device))
            spent[name] += times[name][-1]
    return times


def peak_memory(function: Callable[[], object], device: torch.device | str = 'cpu') -> int:
    """Measure the peak of the memory that a function takes, above what was taken before.

    On a GPU by PyTorch's allocator, on a CPU by the allocations that PyTorch's
    profiler records. What the function returns counts; scratch space of
    libraries does where they take it from PyTorch.

    Args:
        function: The function.
        device: Device that it works on. Defaults to ``'cpu'``.

    Returns:
        int: Bytes.

    Example:
        >>> import torch
        >>> from lisa_mm.analysis import peak_memory
        >>> peak_memory(lambda: torch.ones(1000).double().sum()) // 1000
        12
    """
    device = torch.device(device)
    if device.type == 'cuda':
        function()  # some libraries take what they keep at the first call
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        kept = function()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - before
        del kept
        return peak
    # builds for CUDA log an error where there is no GPU
    os.environ.setdefault('KINETO_LOG_LEVEL', '6')
    # without it, later versions of PyTorch warn
    options = dict(acc_events=True) if 'acc_events' in signature(profile).parameters else {}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, **options) as record:
        kept = function()
    del kept
    changes = [
        (event.start_ns() if hasattr(event, 'start_ns') else event.start_us(), event.nbytes())
        for event in record.profiler.kineto_results.events()
        if event.name() == '[memory]'
    ]
    live = peak = 0
    for _, change in sorted(changes, key=lambda change: change[0]):
        live += change
        peak = max(peak, live)
    return peak


def _time(function: Callable[[], object], device: torch.device | str) -> float:
    device = torch.device(device)
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
