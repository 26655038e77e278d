"""What PyTorch does to the operators: compile, differentiate, profile them."""

import pytest
import torch

from lisa_mm.analysis import peak_memory
from lisa_mm.ops import apply_patterns, correlate, structural_patterns, structure_aware_attention
from lisa_mm.ops._fourier import FourierCorrelation
from lisa_mm.ops._real_fourier import RealFourierCorrelation
from lisa_mm.ops._registration import HAS_CUSTOM_OP

needs_custom_op = pytest.mark.skipif(not HAS_CUSTOM_OP, reason='custom_op came with PyTorch 2.4')


def arguments(name, dtype=torch.float32, requires_grad=True):
    torch.manual_seed(0)

    def tensor(*shape):
        return torch.randn(shape, dtype=dtype).requires_grad_(requires_grad)

    maps = tensor(2, 2, 3, 5, 7), tensor(2, 2, 3, 5, 7)
    table = tensor(2, 2, 3, 5)
    return {
        'correlate': (maps[0], table),
        'structural_patterns': (*maps, table),
        'apply_patterns': (tensor(2, 2, 2, 5, 7), maps[1], table),
    }[name]


FUNCTIONS = [correlate, structural_patterns, apply_patterns]


@needs_custom_op
@pytest.mark.parametrize('impl', ['dense', 'fft'])
@pytest.mark.parametrize('boundary', ['zero', 'circular'])
@pytest.mark.parametrize('function', FUNCTIONS)
def test_opcheck(function, boundary, impl):
    name = function.__name__
    tensors = arguments(name)
    operators = torch.ops.lisa_mm
    torch.library.opcheck(getattr(operators, name).default, (*tensors, boundary, impl))
    grad = function(*tensors, boundary, impl).detach()
    tensors = [tensor.detach() for tensor in tensors]
    wanted = [False, *(True for _ in tensors[1:])]
    gradients = getattr(operators, f'{name}_backward').default
    torch.library.opcheck(gradients, (grad, *tensors, boundary, impl, wanted))


@pytest.mark.parametrize('impl', ['dense', 'fft'])
@pytest.mark.parametrize('function', FUNCTIONS)
def test_gradients_of_some_arguments_alone(function, impl):
    tensors = arguments(function.__name__)
    out = function(*tensors, impl=impl)
    grad = torch.randn_like(out)
    expected = torch.autograd.grad(out, tensors, grad)
    for i, tensor in enumerate(tensors):
        others = [t.detach() if j != i else t for j, t in enumerate(tensors)]
        (found,) = torch.autograd.grad(function(*others, impl=impl), tensor, grad)
        torch.testing.assert_close(found, expected[i], rtol=0, atol=0)


@pytest.mark.parametrize('impl', ['dense', 'fft'])
@pytest.mark.parametrize('function', FUNCTIONS)
def test_double_backward_is_refused(function, impl):
    tensors = arguments(function.__name__)
    out = function(*tensors, impl=impl)
    (grad,) = torch.autograd.grad(out.square().sum(), tensors[0], create_graph=True)
    with pytest.raises(RuntimeError, match='cannot be differentiated twice'):
        grad.sum().backward()


@needs_custom_op
@pytest.mark.parametrize('impl', ['dense', 'fft'])
def test_compiles_without_a_graph_break(impl):
    torch.manual_seed(0)
    tensors = [
        torch.randn(shape, requires_grad=True)
        for shape in (*[(2, 2, 4, 6, 9)] * 3, (2, 3, 5, 5), (2, 3, 3, 7))
    ]

    def function(*tensors):
        return structure_aware_attention(*tensors, impl=impl).square().sum()

    expected = torch.autograd.grad(function(*tensors), tensors)
    compiled = torch.compile(function, fullgraph=True, backend='aot_eager')
    found = torch.autograd.grad(compiled(*tensors), tensors)
    for found_grad, expected_grad in zip(found, expected):
        torch.testing.assert_close(found_grad, expected_grad)


def test_the_plain_autograd_function_agrees(monkeypatch):
    """What stands in for custom operators before PyTorch 2.4."""
    from lisa_mm.ops import _operators, _registration

    monkeypatch.setattr(_registration, 'HAS_CUSTOM_OP', False)
    function = _operators._define(
        'plain', 'x table', 'correlate', 0, lambda x, table: (*x[:3], table[1], *x[3:])
    )
    tensors = arguments('correlate')
    expected = correlate(*tensors, 'zero', 'fft')
    found = function(*tensors, 'zero', 'fft')
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    grad = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad(found, tensors, grad, retain_graph=True),
        torch.autograd.grad(expected, tensors, grad),
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    (first,) = torch.autograd.grad(found.square().sum(), tensors[0], create_graph=True)
    with pytest.raises(RuntimeError, match='cannot be differentiated twice'):
        first.sum().backward()


@pytest.mark.parametrize('num_patterns', [1, 4, 16])
@pytest.mark.parametrize('part', ['whole', 'patterns', 'apply'])
def test_memory_does_not_grow_with_the_patterns(part, num_patterns):
    torch.manual_seed(0)
    maps = [torch.randn(1, 2, 32, 96, 96, requires_grad=True) for _ in range(3)]
    patterns = torch.randn(1, 2, num_patterns, 96, 96, requires_grad=True)
    # the tables' own gradients are not counted
    encoder, decoder = torch.randn(2, 2, num_patterns, 55, 55)
    run, inputs = {
        'whole': (lambda *t: structure_aware_attention(*t, encoder, decoder, impl='fft'), maps),
        'patterns': (lambda *t: structural_patterns(*t, encoder, impl='fft'), maps[:2]),
        'apply': (lambda *t: apply_patterns(*t, decoder, impl='fft'), [patterns, maps[2]]),
    }[part]
    grad = torch.randn_like(run(*inputs))

    def forward_and_backward():
        out = run(*inputs)
        return out, torch.autograd.grad(out, inputs, grad)

    limit = 5 * sum(tensor.nbytes for tensor in maps)
    assert peak_memory(forward_and_backward) < limit


@pytest.mark.parametrize('boundary', ['zero', 'circular'])
@pytest.mark.parametrize('grid', [(1, 9), (8, 8), (5, 12)])
def test_real_transforms_agree(grid, boundary):
    torch.manual_seed(0)
    maps, x = torch.randn(2, 2, 2, 3, *grid, dtype=torch.float64)
    weights = torch.randn(2, 2, 4, *grid, dtype=torch.float64)
    table = torch.randn(2, 4, 9, 13, dtype=torch.float64)
    fast, real = (
        kind(table, grid, boundary) for kind in (FourierCorrelation, RealFourierCorrelation)
    )
    for method, args in (
        ('correlate', (x,)),
        ('reduce_channels', (maps, x)),
        ('reduce_patterns', (weights, x)),
    ):
        expected = getattr(fast, method)(*args)
        torch.testing.assert_close(getattr(real, method)(*args), expected, rtol=0, atol=1e-11)
