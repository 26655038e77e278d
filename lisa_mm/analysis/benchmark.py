"""What the benchmarks share: results that are added to, and where they come from."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def read_results(path: str | Path) -> list[dict]:
    """Read the rows of a file of results; none if it does not exist."""
    path = Path(path)
    return json.loads(path.read_text()) if path.exists() else []


def add_results(path: str | Path, rows: Sequence[dict]) -> list[dict]:
    """Add rows to a file of results, one line each, and return all of them.

    What other processes have added meanwhile is kept, and the file is replaced
    as a whole: stopped at any moment, it holds the old rows or all.

    Args:
        path: A ``.json`` file.
        rows: The rows to add.
    """
    path = Path(path)
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
