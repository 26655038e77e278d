import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lisa_mm.ops import correlate

BOUNDARIES = ('zero', 'circular')
IMPLS = ('dense', 'fft')

sizes = st.integers(1, 7)
radii = st.integers(0, 8)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 3), sizes, sizes),
    patterns=st.integers(1, 3),
    radius=st.tuples(radii, radii),
    boundary=st.sampled_from(BOUNDARIES),
    impl=st.sampled_from(IMPLS),
    seed=st.integers(0, 2**31),
)
def test_agrees_with_the_definition(shape, patterns, radius, boundary, impl, seed):
    torch.manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    extent = [2 * r + 1 for r in radius]
    table = torch.randn(shape[1], patterns, *extent, dtype=torch.float64, requires_grad=True)
    expected = reference.correlate(x, table, boundary)
    found = correlate(x, table, boundary, impl)
    assert found.shape == expected.shape
    assert reference.relative_error(found, expected) < 1e-10
    grad = torch.randn_like(expected)
    expected_grads = torch.autograd.grad(expected, (x, table), grad)
    found_grads = torch.autograd.grad(found, (x, table), grad)
    scale = max(g.abs().max() for g in expected_grads)
    for found_grad, expected_grad in zip(found_grads, expected_grads):
        assert (found_grad - expected_grad).abs().max() < 1e-10 * scale


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('boundary', BOUNDARIES)
@pytest.mark.parametrize('grid', [(1, 9), (9, 1), (8, 8), (5, 12)])
def test_impls_agree_in_float32(grid, boundary, impl):
    torch.manual_seed(0)
    x = torch.randn(2, 2, 3, *grid)
    table = torch.randn(2, 2, 9, 5)
    expected = reference.correlate(x.double(), table.double(), boundary)
    assert reference.relative_error(correlate(x, table, boundary, impl), expected) < 1e-5


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('boundary', BOUNDARIES)
def test_gradcheck(boundary, impl):
    torch.manual_seed(0)
    x = torch.randn(1, 2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    table = torch.randn(2, 2, 3, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *args: correlate(*args, boundary, impl), (x, table))


@pytest.mark.parametrize('impl', IMPLS)
def test_a_table_with_one_entry_shifts(impl):
    x = torch.arange(12.0).view(1, 1, 1, 3, 4)
    table = torch.zeros(1, 1, 3, 3)
    table[0, 0, 0, 2] = 1  # the neighbour above, to the right
    expected = torch.zeros(3, 4)
    expected[1:, :3] = x[0, 0, 0, :2, 1:]
    torch.testing.assert_close(correlate(x, table, impl=impl)[0, 0, 0, 0], expected)
    wrapped = x[0, 0, 0].roll((1, -1), (0, 1))
    torch.testing.assert_close(correlate(x, table, 'circular', impl)[0, 0, 0, 0], wrapped)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_returns_the_dtype_of_the_map(dtype, impl):
    # odd sizes, of which there is no half-precision FFT
    x, table = torch.randn(1, 1, 2, 5, 7), torch.randn(1, 1, 3, 3)
    found = correlate(x.to(dtype), table, impl=impl)
    assert found.dtype == dtype
    expected = correlate(x.to(dtype).double(), table.double())
    error = reference.relative_error(found.double(), expected)
    assert error < {torch.float16: 1e-3, torch.bfloat16: 1e-2}.get(dtype, 1e-5)


@pytest.mark.parametrize('impl', IMPLS)
def test_autocast_leaves_the_computation_in_float32(impl):
    torch.manual_seed(0)
    x, table = torch.randn(1, 2, 8, 6, 5), torch.randn(2, 2, 5, 5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = correlate(x, table, impl=impl)
    torch.testing.assert_close(found, correlate(x, table, impl=impl), rtol=0, atol=0)


def test_takes_maps_in_any_memory_layout():
    torch.manual_seed(0)
    x = torch.randn(2, 9, 8, 7, 3)  # (B, H, W, C, G), say
    table = torch.randn(3, 2, 5, 5)
    x = x.permute(0, 4, 3, 1, 2)
    for impl in IMPLS:
        torch.testing.assert_close(
            correlate(x, table, impl=impl), correlate(x.contiguous(), table, impl=impl)
        )


X, TABLE = torch.zeros(1, 2, 3, 4, 5), torch.zeros(2, 1, 3, 3)


@pytest.mark.parametrize(
    ('args', 'error', 'message'),
    [
        ((None, TABLE), TypeError, 'x must be a torch.Tensor, got NoneType'),
        ((X.long(), TABLE), TypeError, r'x must have a real floating-point dtype.*torch.int64'),
        ((X, TABLE.cfloat()), TypeError, r'table must have a real .* got torch.complex64'),
        ((X[0], TABLE), ValueError, r'x must have shape \(B, G, C, H, W\), got \(2, 3, 4, 5\)'),
        ((X[..., :0], TABLE), ValueError, r'x must not be empty.*\(1, 2, 3, 4, 0\)'),
        ((X, TABLE[0]), ValueError, r'table must have shape \(G, P, 2\*ry\+1, 2\*rx\+1\)'),
        ((X, TABLE[:1]), ValueError, r'x has 2 heads.*table has shape \(1, 1, 3, 3\)'),
        ((X, TABLE[:, :0]), ValueError, r'table must hold at least one table per head'),
        ((X, TABLE[..., :2]), ValueError, r'table must have an odd extent.*\(2, 1, 3, 2\)'),
        ((X, TABLE, 'same'), ValueError, "boundary must be one of 'zero', 'circular', got 'same'"),
        ((X, TABLE, 'zero', 'fast'), ValueError, "impl must be one of 'auto', 'dense', 'fft'"),
        ((X, TABLE.to('meta')), ValueError, 'x on cpu, table on meta'),
    ],
)
def test_bad_input(args, error, message):
    with pytest.raises(error, match=message):
        correlate(*args)
