import pytest

from lisa_mm.ops._fourier import fft_size, next_fast_size


def test_next_fast_size():
    def is_fast(n):
        for factor in (2, 3, 5, 7):
            while n % factor == 0:
                n //= factor
        return n == 1

    for size in range(1, 400):
        step = 4 if size > 4 else 1
        candidates = (n for n in range(size, 2 * size + 1) if n % step == 0 and is_fast(n))
        assert next_fast_size(size) == next(candidates)


@pytest.mark.parametrize(
    ('grid', 'radius', 'boundary', 'size'),
    [
        ((56, 56), (27, 27), 'zero', (84, 84)),
        ((56, 30), (0, 3), 'zero', (56, 36)),
        ((7, 7), (27, 27), 'zero', (16, 16)),  # no offset beyond 6 occurs
        ((57, 61), (27, 27), 'circular', (57, 61)),
    ],
)
def test_fft_size(grid, radius, boundary, size):
    assert fft_size(grid, radius, boundary) == size
