"""What all attention modules have in common."""

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lisa_mm.models import attention as attention_modules
from lisa_mm.models.attention._base import QKVAttention
from lisa_mm.ops._registration import HAS_CUSTOM_OP
from lisa_mm.registry import MODELS

VARIANTS = {
    'depthwise convolution': dict(type='DepthwiseConv', kernel_size=5),
    'efficient': dict(type='EfficientAttention'),
    'external': dict(type='ExternalAttention', memory_size=5),
    'external, one head': dict(type='ExternalAttention', memory_size=5, multi_head=False),
    'focused linear': dict(type='FocusedLinearAttention'),
    'Gaussian': dict(type='GaussianAttention'),
    'global filter': dict(type='GlobalFilter', reference_grid=(5, 8)),
    'halo': dict(type='HaloAttention', block_size=3, halo_size=2),
    'linear': dict(type='LinearAttention'),
    'softmax': dict(type='SelfAttention'),
    'softmax, position bias': dict(type='SelfAttention', position_bias=True, rpe_radius=(2, 3)),
    'structure-aware': dict(type='StructureAwareAttention', rpe_radius=3),
    'structure-aware, circular': dict(
        type='StructureAwareAttention', rpe_radius=(4, 2), boundary='circular'
    ),
    'structure-aware, interpolate': dict(
        type='StructureAwareAttention', rpe_radius=2, resolution='interpolate', reference_grid=6
    ),
    'window': dict(type='WindowAttention', window_size=3),
    'window, shifted': dict(type='WindowAttention', window_size=4, shift=True),
}
WITH_KERNELS = {name: cfg for name, cfg in VARIANTS.items() if 'external' not in name}
# whose kernels are means: no weight is negative, and they sum to one
STOCHASTIC = {
    name: cfg
    for name, cfg in WITH_KERNELS.items()
    if not name.startswith(('depthwise', 'global', 'structure-aware'))
}


def build(cfg, embed_dims=8, num_heads=2):
    """A module in double precision, its position biases not zero as at the start."""
    module = MODELS.build(dict(cfg, embed_dims=embed_dims, num_heads=num_heads, _scope_='lisa_mm'))
    for name, parameter in module.named_parameters():
        if name == 'rpe_bias':
            nn.init.normal_(parameter)
    return module.double()


def every_position(grid):
    return torch.cartesian_prod(*(torch.arange(size) for size in grid))


def values_of(module, x):
    """What the kernels are weights of, (B, heads, c, H, W)."""
    if isinstance(module, QKVAttention):
        return module.heads(x)[2]
    if hasattr(module, 'value'):
        return module.value(x).unflatten(1, (module.num_heads, -1))
    return x.unsqueeze(2)


def variants(chosen):
    return pytest.mark.parametrize('cfg', chosen.values(), ids=list(chosen))


def test_all_modules_are_tried():
    assert {cfg['type'] for cfg in VARIANTS.values()} == set(attention_modules.__all__)


@variants(WITH_KERNELS)
@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9))
def test_the_output_is_the_values_weighted_by_the_kernels(cfg, height, width):
    torch.manual_seed(0)
    module = build(cfg)
    module.proj = nn.Identity()
    x = torch.randn(2, 8, height, width, dtype=torch.float64)
    if hasattr(module, 'conv') and 'Focused' in cfg['type']:
        nn.init.zeros_(module.conv.weight)
    if isinstance(getattr(module, 'conv', None), nn.Conv2d):
        nn.init.zeros_(module.conv.bias)
    kernels = module.kernels(x, every_position((height, width)))
    values = values_of(module, x)
    assert kernels.shape == (*values.shape[:2], height * width, height, width)
    out = torch.einsum('bgkhw,bgchw->bgck', kernels, values).reshape_as(x)
    torch.testing.assert_close(out, module(x))


@variants(WITH_KERNELS)
def test_kernels_of_some_positions(cfg):
    torch.manual_seed(0)
    module = build(cfg)
    x = torch.randn(1, 8, 7, 5, dtype=torch.float64)
    positions = torch.tensor([[6, 0], [3, 4]])
    expected = module.kernels(x, every_position((7, 5)))[:, :, [30, 19]]
    torch.testing.assert_close(module.kernels(x, positions), expected)
    assert module.kernels(x, positions[:0]).shape[2] == 0


@variants(STOCHASTIC)
def test_kernels_are_means(cfg):
    torch.manual_seed(0)
    kernels = build(cfg).kernels(
        torch.randn(2, 8, 7, 5, dtype=torch.float64), every_position((7, 5))
    )
    assert kernels.min() >= 0
    sums = kernels.sum((-2, -1))
    torch.testing.assert_close(sums, torch.ones_like(sums))


@variants(VARIANTS)
@pytest.mark.parametrize('grid', [(1, 1), (1, 7), (6, 4), (13, 9)])
def test_any_grid_and_every_gradient(cfg, grid):
    torch.manual_seed(0)
    module = build(cfg).float()
    x = torch.randn(2, 8, *grid, requires_grad=True)
    out = module(x)
    assert out.shape == x.shape
    out.square().sum().backward()
    for name, tensor in (('x', x), *module.named_parameters()):
        assert tensor.grad is not None and tensor.grad.isfinite().all(), name
        if grid == (13, 9):
            assert tensor.grad.abs().sum() > 0, name


@variants(VARIANTS)
def test_gradients_are_those_of_finite_differences(cfg):
    torch.manual_seed(0)
    module = build(cfg, embed_dims=4)
    x = torch.randn(1, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, x)


@variants(VARIANTS)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast(cfg, dtype):
    if dtype == torch.float16 and not HAS_CUSTOM_OP:
        pytest.skip('early versions of PyTorch know no float16 in autocast on a CPU')
    torch.manual_seed(0)
    module = build(cfg).float()
    x = torch.randn(1, 8, 6, 7)
    with torch.autocast('cpu', dtype=dtype):
        out = module(x)
    assert reference.relative_error(out.float(), module(x)) < 0.05


@variants(VARIANTS)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_weights_of_half_precision(cfg, dtype):
    """As under DeepSpeed, or FSDP's mixed precision."""
    if dtype == torch.float16 and not HAS_CUSTOM_OP:
        pytest.skip('early versions of PyTorch have no half-precision operators on a CPU')
    torch.manual_seed(0)
    module = build(cfg).float()
    x = torch.randn(1, 8, 6, 7)
    expected = module(x)
    out = module.to(dtype)(x.to(dtype))
    assert out.dtype == dtype
    assert reference.relative_error(out.float(), expected) < 0.1


LARGE = {  # those that do not take N^2
    name: cfg for name, cfg in VARIANTS.items() if not name.startswith('softmax')
}


@variants(LARGE)
@pytest.mark.skipif(not HAS_CUSTOM_OP, reason='early versions have no float16 on a CPU')
def test_half_precision_on_the_grid_of_a_detector(cfg):
    """Values of one sign add up over 66,800 positions to more than float16 holds."""
    torch.manual_seed(0)
    module = build(cfg, embed_dims=4).float()
    x = torch.randn(1, 4, 200, 334) + 3
    with torch.no_grad():
        expected = module(x)
        with torch.autocast('cpu', torch.float16):
            out = module(x)
    assert reference.relative_error(out.float(), expected) < 0.05


@variants(VARIANTS)
def test_large_activations(cfg):
    torch.manual_seed(0)
    module = build(cfg).float()
    x = torch.randn(1, 8, 9, 9) * 1e3
    x.requires_grad_()
    out = module(x)
    out.sum().backward()
    for name, tensor in (('x', x), *module.named_parameters()):
        assert tensor.grad.isfinite().all(), name
    if not HAS_CUSTOM_OP:
        return  # early versions have no float16 on a CPU
    with torch.no_grad(), torch.autocast('cpu', torch.float16):
        assert module(x).isfinite().all()


@variants(VARIANTS)
@pytest.mark.skipif(not HAS_CUSTOM_OP, reason='early versions have no float16 on a CPU')
def test_nothing_in_half_precision(cfg):
    """What keeps a norm from zero in single precision may be zero there."""
    module = build(cfg).half()
    x = torch.zeros(1, 8, 6, 7, dtype=torch.float16)
    assert module(x).isfinite().all()
    with torch.autocast('cpu', torch.float16):
        assert module.float()(x.float()).isfinite().all()


@variants(WITH_KERNELS)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_kernels_in_half_precision(cfg, dtype):
    if dtype == torch.float16 and not HAS_CUSTOM_OP:
        pytest.skip('early versions of PyTorch have no half-precision operators on a CPU')
    torch.manual_seed(0)
    module = build(cfg).float()
    positions = every_position((6, 7))
    x = torch.randn(1, 8, 6, 7)
    expected = module.kernels(x, positions)
    large = torch.full_like(x, 300)
    with torch.autocast('cpu', dtype=dtype):
        assert reference.relative_error(module.kernels(x, positions), expected) < 0.05
        assert module.kernels(large, positions).isfinite().all()
    kernels = module.to(dtype).kernels(x.to(dtype), positions)
    assert reference.relative_error(kernels.float(), expected) < 0.05


@variants(VARIANTS)
def test_a_sample_does_not_depend_on_the_others(cfg):
    torch.manual_seed(0)
    module = build(cfg)
    x = torch.randn(3, 8, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(module(x)[1:2], module(x[1:2]))


@variants(VARIANTS)
def test_bad_heads(cfg):
    with pytest.raises(ValueError, match='embed_dims must be a multiple of num_heads, got .*=10 '):
        build(cfg, embed_dims=10, num_heads=3)
    with pytest.raises(ValueError, match='num_heads must be an integer of at least 1, got 0'):
        build(cfg, num_heads=0)


@variants(WITH_KERNELS)
def test_bad_positions(cfg):
    module = build(cfg)
    x = torch.randn(1, 8, 5, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match=r'must be on the grid \(5, 6\), got \[5, 0\]'):
        module.kernels(x, torch.tensor([[4, 5], [5, 0]]))
    with pytest.raises(ValueError, match=r'must be on the grid \(5, 6\), got \[0, -1\]'):
        module.kernels(x, torch.tensor([[0, -1]]))
    with pytest.raises(ValueError, match=r'positions must be integers of shape \(K, 2\), rows'):
        module.kernels(x, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r'got torch.float32 of shape \(1, 2\)'):
        module.kernels(x, torch.ones(1, 2))
