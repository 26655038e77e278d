"""Running a function in a process of its own."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable
from typing import Any

import torch


def run_isolated(function: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
    """Run a function in a process of its own, which may crash or take too long.

    It ends with the process that called this, even if that is killed.

    Without a GPU the process is forked: what is imported is there at once, but
    no threads may have been at work before. With one it is started afresh,
    which CUDA asks for.

    Args:
        function: What to run, of a module; what it takes and returns must be
            picklable.
        *args: Its arguments.
        timeout: Seconds that it may take. Defaults to None: any time.

    Returns:
        Any: What the function returned.

    Raises:
        ChildProcessError: If the process ended before; what it raised is
            printed.
        TimeoutError: If it was not done in time.

    Example:
        >>> from lisa_mm.analysis.isolation import run_isolated
        >>> run_isolated(max, 1, 2)
        2
    """
    context = multiprocessing.get_context('spawn' if torch.cuda.is_available() else 'fork')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, *args))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            raise TimeoutError(f'{function.__name__} was not done after {timeout:g} s')
        return receiver.recv()
    except EOFError:
        process.join()
        raise ChildProcessError(f'the process ended with exit code {process.exitcode}') from None
    finally:
        process.kill()
        process.join()


def _send(
    sender: multiprocessing.connection.Connection, function: Callable[..., Any], *args: Any
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sender.send(function(*args))


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, however that was."""
    multiprocessing.parent_process().join()
    os._exit(1)
