import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lisa_mm.analysis.isolation import run_isolated


def test_returns_what_the_function_returns():
    assert run_isolated(max, 1, 2) == 2
    assert run_isolated(os.getpid) != os.getpid()


def test_crash_is_told():
    with pytest.raises(ChildProcessError, match='the process ended with exit code 3'):
        run_isolated(os._exit, 3, timeout=60)


def test_ends_with_its_parent():
    """Killed, the parent can do nothing about it."""
    script = """
import os, signal, time
from lisa_mm.analysis.isolation import run_isolated

def work():
    print(os.getpid(), flush=True)
    time.sleep(300)

run_isolated(work)
"""
    parent = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.read()  # until all who could write to it are gone
    for _ in range(200):
        if not is_running(child):
            return
        time.sleep(0.05)
    raise AssertionError('the child goes on')


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # ended, and not yet asked about by the process that has inherited it
    status = Path(f'/proc/{pid}/stat')
    return not status.exists() or status.read_text().rpartition(')')[2].split()[0] != 'Z'


def test_hanging_is_ended():
    with pytest.raises(TimeoutError, match='sleep was not done after 0.1 s'):
        run_isolated(time.sleep, 60, timeout=0.1)
