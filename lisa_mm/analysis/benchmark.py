"""What the benchmarks share: measuring models, and results that are added to."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .complexity import count_complexity
from .measure import interleaved_times, peak_memory

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def read_results(path: str | Path) -> list[dict]:
    """Read the rows of a file of results; none if it does not exist.

    Raises:
        ValueError: If it is no such file.
    """
    path = Path(path)
    if not path.exists():
        return []
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f'{path} is not a file of results: {error}') from error


def add_results(path: str | Path, rows: Sequence[dict]) -> list[dict]:
    """Add rows to a file of results, one line each, and return all of them.

    What other processes have added meanwhile is kept, and the file is replaced
    as a whole: stopped at any moment, it holds the old rows or all.

    Args:
        path: A ``.json`` file; its folder is made if it is not there.
        rows: The rows to add.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        every = [*read_results(path), *rows]
        text = ',\n'.join(json.dumps(row) for row in every)
        partial = path.with_name(f'{path.name}.{os.getpid()}')
        partial.write_text(f'[\n{text}\n]\n')
        partial.replace(path)
    return every


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time pass, where the system has such locks."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_csv(path: str | Path, rows: Sequence[dict]) -> None:
    """Write rows with the same keys as a table."""
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown.

    Example:
        >>> from lisa_mm.analysis.benchmark import markdown_table
        >>> print(markdown_table(['model', 'mAP'], [['a', '43.1']]))
        | model | mAP |
        |---|---|
        | a | 43.1 |
    """
    lines = [f'| {" | ".join(cells)} |' for cells in (header, *rows)]
    return '\n'.join([lines[0], '|---' * len(header) + '|', *lines[1:]])


def measure_jobs(
    path: str | Path,
    jobs: Sequence[dict[str, Any]],
    names: Sequence[str],
    measure: Callable[[dict[str, Any]], list[dict[str, Any]]],
    key: str = 'name',
) -> list[dict]:
    """Measure what a file of results does not have yet, and add it.

    Args:
        path: The ``.json`` file.
        jobs: What to measure, one dict each, which goes into its rows.
        names: What each job measures, in turn, so that ratios mean something.
        measure: Takes a job and returns its rows, one for each name.
        key: Of the name in a row. Defaults to ``'name'``.

    Returns:
        list[dict]: All rows of the file.

    Raises:
        ValueError: If a job has been measured with some of the names only.
    """
    rows = read_results(path)
    for done, job in enumerate(jobs):
        there = {row[key] for row in rows if job.items() <= row.items()}
        if set(names) <= there:
            continue
        what = ', '.join(
            'x'.join(map(str, value)) if isinstance(value, list) else str(value)
            for name, value in job.items()
            if name in ('size', 'mode', 'variant')
        )
        if there:
            raise ValueError(
                f'{path} has {sorted(there)} at {what} already, without the others: ratios are '
                'for what is measured together. Use another file'
            )
        print(f'{done + 1}/{len(jobs)} {what}', flush=True)
        rows = add_results(path, [{**job, **row} for row in measure(job)])
    return rows


def measure_models(
    models: Mapping[str, nn.Module],
    images: Tensor,
    mode: str,
    variant: str = 'plain',
    repeats: int = 5,
    budget: float | None = None,
) -> list[dict[str, Any]]:
    """Measure backbones in turn: parameters, multiply-adds, time and peak memory.

    Args:
        models: The backbones, by name, on the device of the images.
        images: (B, C, H, W).
        mode: ``'inference'`` or ``'training step'``.
        variant: ``'plain'``, ``'autocast'`` (bfloat16), ``'channels_last'`` or
            ``'compile'``. Defaults to ``'plain'``.
        repeats: Rounds. Defaults to 5.
        budget: Seconds after which a model is not repeated. Defaults to None:
            no limit.

    Returns:
        list[dict]: A row for each model; multiply-adds are of one image, the
        time is the median.
    """
    functions, rows = {}, {}
    for name, model in models.items():
        model.eval()
        total = count_complexity(model, lambda model=model: model(images[:1]))[-1]
        rows[name] = dict(name=name, parameters=total.parameters, multiply_adds=total.multiply_adds)
        functions[name] = _prepare(model, images, mode, variant)
    times = interleaved_times(functions, images.device, repeats, budget)
    for name, row in rows.items():
        seconds = statistics.median(times[name])
        row.update(
            images_per_second=len(images) / seconds,
            seconds=seconds,
            spread=[min(times[name]), max(times[name])],
            peak_bytes=peak_memory(functions[name], images.device),
        )
    return list(rows.values())


def _prepare(model: nn.Module, images: Tensor, mode: str, variant: str) -> Callable[[], object]:
    """Return a function that runs a backbone once, on images or a whole step of training."""
    model.train(mode == 'training step')
    if variant == 'channels_last':
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    run = torch.compile(model) if variant == 'compile' else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def forward():
        with torch.autocast(images.device.type, torch.bfloat16, enabled=variant == 'autocast'):
            return run(images)

    def inference():
        with torch.no_grad():
            return forward()

    def training_step():
        sum(feature.float().mean() for feature in forward()).backward()
        optimizer.step()
        optimizer.zero_grad()  # at the end: gradients of before would hide the memory of these

    return inference if mode == 'inference' else training_step


def describe_environment(device: torch.device | str) -> dict[str, str]:
    """Name the device and the version of PyTorch."""
    if torch.device(device).type == 'cuda':
        name = torch.cuda.get_device_name(device)
    else:
        name = f'{platform.machine()} CPU, {torch.get_num_threads()} threads'
    return dict(device=name, torch=torch.__version__)


def parse_size(text: str) -> tuple[int, int]:
    """Read a size like ``56x56``: a type for arguments of a command line."""
    try:
        height, width = map(int, text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'a size is written like 56x56, got {text!r}') from None
    return height, width
