import pytest
import torch

from lisa_mm.models import SelfAttention
from lisa_mm.ops._registration import HAS_CUSTOM_OP


@pytest.mark.parametrize('position_bias', [False, True])
@pytest.mark.parametrize('grid', [(1, 1), (3, 5), (1, 7)])
def test_is_softmax_attention(grid, position_bias):
    torch.manual_seed(0)
    module = SelfAttention(8, 2, position_bias, rpe_radius=(1, 2)).double()
    x = torch.randn(2, 8, *grid, dtype=torch.float64)
    maps = torch.einsum('oc,bcn->bon', module.qkv.weight[:, :, 0, 0], x.flatten(2))
    maps = maps + module.qkv.bias[:, None]
    query, key, value = maps.view(2, 3, 2, 4, -1).unbind(1)
    logits = torch.einsum('bgcn,bgcm->bgnm', query, key) / 4**0.5
    if position_bias:
        torch.nn.init.normal_(module.rpe_bias)
        places = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
        for n, (y, x_n) in enumerate(places):
            for m, (v, u) in enumerate(places):
                dy, dx = max(-1, min(1, v - y)), max(-2, min(2, u - x_n))
                logits[:, :, n, m] += module.rpe_bias[:, dy + 1, dx + 2]
    kernel = logits.softmax(-1)
    expected = module.proj(torch.einsum('bgnm,bgcm->bgcn', kernel, value).reshape(x.shape))
    torch.testing.assert_close(module(x), expected)


def test_does_not_know_positions_without_a_bias():
    module = SelfAttention(8, 2)
    x = torch.randn(1, 8, 4, 6)
    order = torch.randperm(24)
    shuffled = module(x.flatten(2)[:, :, order].view_as(x))
    torch.testing.assert_close(shuffled, module(x).flatten(2)[:, :, order].view_as(x))


@pytest.mark.skipif(not HAS_CUSTOM_OP, reason='early versions fuse no masks on a CPU')
@pytest.mark.parametrize('position_bias', [False, True])
def test_is_fused_in_inference(position_bias):
    module = SelfAttention(8, 2, position_bias)
    with torch.no_grad(), torch.profiler.profile() as profile:
        module(torch.randn(1, 8, 4, 6))
    assert any('flash_attention_for_cpu' in event.key for event in profile.key_averages())


def test_bad_arguments():
    with pytest.raises(ValueError, match='rpe_radius must be an integer of at least 0, .* got -5'):
        SelfAttention(8, 2, rpe_radius=-5)
    with pytest.raises(ValueError, match='rpe_radius must be an integer of at least 0, .* got -1'):
        SelfAttention(8, 2, position_bias=True, rpe_radius=-1)
