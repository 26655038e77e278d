import math

import pytest
import torch

from lisa_mm.ops import correlate
from lisa_mm.ops._choice import MAX_DENSE_TOKENS, choose_impl, count_work

CPU = torch.device('cpu')


def test_auto_takes_either_impl():
    # a batch of many channels on a small grid, with tables as large as it
    assert choose_impl('auto', (8, 1, 256, 7, 7), (1, 4, 13, 13), 'zero', CPU) == 'dense'
    assert choose_impl('auto', (8, 2, 32, 30, 30), (2, 1, 13, 13), 'zero', CPU) == 'fft'
    side = math.isqrt(MAX_DENSE_TOKENS) + 1
    assert choose_impl('auto', (1, 1, 1000, side, side), (1, 1, 1, 1), 'zero', CPU) == 'fft'


@pytest.mark.parametrize('impl', ['dense', 'fft'])
def test_what_is_asked_for_is_taken(impl):
    for size in (2, 100):
        assert choose_impl(impl, (1, 1, 1, size, size), (1, 1, 3, 3), 'zero', CPU) == impl


def test_auto_agrees_whatever_it_takes():
    torch.manual_seed(0)
    for shape in ((8, 1, 64, 7, 7), (1, 1, 2, 33, 33)):
        x, table = torch.randn(shape), torch.randn(1, 2, 5, 5)
        expected = correlate(x, table, impl='dense')
        torch.testing.assert_close(correlate(x, table), expected, rtol=1e-4, atol=1e-4)


def test_work_is_counted_per_sample():
    work = {b: count_work((b, 2, 8, 7, 7), (2, 3, 5, 5), 'circular') for b in (1, 3)}
    pairs = 2 * 49**2
    assert work[3]['dense'] == (1, 2, 3 * (8 + 3) * pairs, 3 * pairs)
    points = 49 * math.log2(49)
    # k or v of every sample, an inverse per pattern, and the tables once
    assert work[3]['fft'] == pytest.approx((1, 3, (3 * 2 * 8 * 4 + 2 * 3) * points))
