import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lisa_mm.ops import apply_patterns, structural_patterns, structure_aware_attention

BOUNDARIES = ('zero', 'circular')
IMPLS = ('dense', 'fft')

sizes = st.integers(1, 6)
extents = st.integers(0, 7).map(lambda radius: 2 * radius + 1)


def make_inputs(grid, encoder, decoder, batch=2, heads=2, dk=3, dv=2, patterns=2, **kwargs):
    kwargs.setdefault('dtype', torch.float64)
    query, key = torch.randn(2, batch, heads, dk, *grid, **kwargs).unbind()
    return (
        query,
        key,
        torch.randn(batch, heads, dv, *grid, **kwargs),
        torch.randn(heads, patterns, *encoder, **kwargs),
        torch.randn(heads, patterns, *decoder, **kwargs),
    )


@settings(max_examples=40, deadline=None)
@given(
    grid=st.tuples(sizes, sizes),
    encoder=st.tuples(extents, extents),
    decoder=st.tuples(extents, extents),
    batch=st.integers(1, 2),
    heads=st.integers(1, 2),
    dk=st.integers(1, 3),
    dv=st.integers(1, 3),
    patterns=st.integers(1, 3),
    boundary=st.sampled_from(BOUNDARIES),
    impl=st.sampled_from(IMPLS),
    seed=st.integers(0, 2**31),
)
def test_agrees_with_the_definition(
    grid, encoder, decoder, batch, heads, dk, dv, patterns, boundary, impl, seed
):
    torch.manual_seed(seed)
    inputs = make_inputs(grid, encoder, decoder, batch, heads, dk, dv, patterns)
    inputs = [tensor.requires_grad_() for tensor in inputs]
    query, key, value, encoder, decoder = inputs
    expected_patterns, expected = reference.attention(*inputs, boundary)

    found_patterns = structural_patterns(query, key, encoder, boundary, impl)
    assert found_patterns.shape == expected_patterns.shape
    assert reference.relative_error(found_patterns, expected_patterns) < 1e-10

    found = structure_aware_attention(*inputs, boundary, impl)
    assert found.shape == expected.shape
    assert reference.relative_error(found, expected) < 1e-10
    composed = apply_patterns(found_patterns, value, decoder, boundary, impl)
    assert reference.relative_error(composed, expected) < 1e-10

    grad = torch.randn_like(expected)
    found_grads = torch.autograd.grad(found, inputs, grad)
    expected_grads = torch.autograd.grad(expected, inputs, grad)
    scale = max(g.abs().max() for g in expected_grads)
    for found_grad, expected_grad in zip(found_grads, expected_grads):
        assert (found_grad - expected_grad).abs().max() < 1e-10 * scale


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('boundary', BOUNDARIES)
def test_gradcheck(boundary, impl):
    torch.manual_seed(0)
    inputs = make_inputs((3, 4), (3, 9), (5, 1), batch=1, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *args: structure_aware_attention(*args, boundary, impl), inputs
    )


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('boundary', BOUNDARIES)
@pytest.mark.parametrize('grid', [(1, 16), (16, 1), (7, 7), (6, 11)])
def test_float32(grid, boundary, impl):
    torch.manual_seed(0)
    inputs = [tensor.requires_grad_() for tensor in make_inputs(grid, (7, 7), (7, 7), dk=16, dv=16)]
    singles = [tensor.detach().float().requires_grad_() for tensor in inputs]
    _, expected = reference.attention(*inputs, boundary)
    found = structure_aware_attention(*singles, boundary, impl)
    assert reference.relative_error(found, expected) < 1e-5
    grad = torch.randn_like(expected)
    for single, double in zip(
        torch.autograd.grad(found, singles, grad.float()),
        torch.autograd.grad(expected, inputs, grad),
    ):
        assert reference.relative_error(single, double) < 1e-5


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype, impl):
    torch.manual_seed(0)
    *maps, encoder, decoder = make_inputs((5, 7), (3, 3), (3, 3), dtype=torch.float32)
    maps = [tensor.to(dtype) for tensor in maps]
    found = structure_aware_attention(*maps, encoder, decoder, impl=impl)
    expected = structure_aware_attention(*(m.float() for m in maps), encoder, decoder, impl=impl)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=0)
    patterns = structural_patterns(maps[0], maps[1], encoder, impl=impl)
    assert patterns.dtype == dtype
    assert apply_patterns(patterns.float(), maps[2], decoder, impl=impl).dtype == dtype


@pytest.mark.parametrize('impl', IMPLS)
def test_gradients_have_the_dtype_of_their_inputs(impl):
    query, key, value, encoder, decoder = make_inputs((4, 5), (3, 3), (3, 3))
    inputs = [t.half().requires_grad_() for t in (query, key, value)]
    inputs += [t.float().requires_grad_() for t in (encoder, decoder)]
    structure_aware_attention(*inputs, impl=impl).float().sum().backward()
    assert all(t.grad.dtype == t.dtype and t.grad.isfinite().all() for t in inputs)


@pytest.mark.parametrize('impl', IMPLS)
def test_autocast_leaves_the_computation_in_float32(impl):
    torch.manual_seed(0)
    inputs = make_inputs((6, 5), (5, 5), (5, 5), dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = structure_aware_attention(*inputs, impl=impl)
    expected = structure_aware_attention(*inputs, impl=impl)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


QUERY = torch.zeros(1, 2, 3, 4, 5)
VALUE = torch.zeros(1, 2, 6, 4, 5)
TABLE = torch.zeros(2, 4, 3, 3)
PATTERNS = torch.zeros(1, 2, 4, 4, 5)


@pytest.mark.parametrize(
    ('function', 'args', 'message'),
    [
        (
            structural_patterns,
            (QUERY, VALUE, TABLE),
            r'query and key must agree in dimensions \[0, 1, 2, 3, 4\], got shapes '
            r'\(1, 2, 3, 4, 5\) and \(1, 2, 6, 4, 5\)',
        ),
        (structural_patterns, (QUERY, QUERY, TABLE[:1]), r'query has 2 heads.*encoder has shape'),
        (structural_patterns, (QUERY, QUERY, TABLE, 'wrap'), "boundary must be one of.*'wrap'"),
        (structural_patterns, (QUERY, QUERY, TABLE, 'zero', 'x'), "impl must be one of.*'x'"),
        (
            apply_patterns,
            (PATTERNS[..., 1:], VALUE, TABLE),
            r'patterns and value must agree in dimensions \[0, 1, 3, 4\]',
        ),
        (
            apply_patterns,
            (PATTERNS, VALUE, TABLE[:, :3]),
            r'number of patterns, got 4 in patterns \(dimension 2\) and 3 in decoder',
        ),
        (apply_patterns, (PATTERNS, VALUE, TABLE[..., :2]), 'decoder must have an odd extent'),
        (
            structure_aware_attention,
            (QUERY, QUERY, VALUE, TABLE, TABLE[:, :2]),
            'patterns and decoder must agree in the number of patterns',
        ),
        (
            structure_aware_attention,
            (QUERY, QUERY, VALUE[:, :, :, 1:], TABLE, TABLE),
            'patterns and value must agree',
        ),
    ],
)
def test_bad_shapes(function, args, message):
    with pytest.raises(ValueError, match=message):
        function(*args)


def test_bad_types():
    with pytest.raises(TypeError, match='query must be a torch.Tensor, got list'):
        structure_aware_attention([], QUERY, VALUE, TABLE, TABLE)
    with pytest.raises(TypeError, match='decoder must have a real floating-point dtype'):
        apply_patterns(PATTERNS, VALUE, TABLE.int())
