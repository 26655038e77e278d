import os
import time

import pytest

from lisa_mm.analysis.isolation import run_isolated


def test_returns_what_the_function_returns():
    assert run_isolated(max, 1, 2) == 2
    assert run_isolated(os.getpid) != os.getpid()


def test_crash_is_told():
    with pytest.raises(ChildProcessError, match='the process ended with exit code 3'):
        run_isolated(os._exit, 3, timeout=60)


def test_hanging_is_ended():
    with pytest.raises(TimeoutError, match='sleep was not done after 0.1 s'):
        run_isolated(time.sleep, 60, timeout=0.1)
