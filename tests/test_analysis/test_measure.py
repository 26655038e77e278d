import time

import pytest
import torch

from lisa_mm.analysis import interleaved_times, peak_memory


def test_times_every_function_in_turn():
    order = []
    times = interleaved_times(
        {'a': lambda: order.append('a'), 'b': lambda: order.append('b')}, repeats=3
    )
    assert order == ['a', 'b'] * 4  # once to warm up
    assert [len(seconds) for seconds in times.values()] == [3, 3]
    assert all(second >= 0 for seconds in times.values() for second in seconds)


def test_a_slow_function_is_timed_once():
    times = interleaved_times({'slow': lambda: time.sleep(0.02)}, repeats=5, budget=0.01)
    assert len(times['slow']) == 1


def test_repeats_must_be_positive():
    with pytest.raises(ValueError, match='repeats must be positive, got 0'):
        interleaved_times({}, repeats=0)


def test_peak_memory_counts_what_lives_at_once():
    x = torch.ones(2**18)  # 1 MiB

    def function():
        y = x * 2
        z = y + x
        del y
        return z * 2

    # and a few bytes of constants
    assert peak_memory(function) == pytest.approx(2 * 2**20, abs=100)
