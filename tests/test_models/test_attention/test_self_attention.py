import pytest
import torch

from lisa_mm.models import SelfAttention


@pytest.mark.parametrize('grid', [(1, 1), (3, 5), (1, 7)])
def test_is_softmax_attention(grid):
    torch.manual_seed(0)
    module = SelfAttention(8, 2).double()
    x = torch.randn(2, 8, *grid, dtype=torch.float64)
    maps = torch.einsum('oc,bcn->bon', module.qkv.weight[:, :, 0, 0], x.flatten(2))
    maps = maps + module.qkv.bias[:, None]
    query, key, value = maps.view(2, 3, 2, 4, -1).unbind(1)
    kernel = (torch.einsum('bgcn,bgcm->bgnm', query, key) / 4**0.5).softmax(-1)
    expected = module.proj(torch.einsum('bgnm,bgcm->bgcn', kernel, value).reshape(x.shape))
    torch.testing.assert_close(module(x), expected)


def test_does_not_know_positions():
    module = SelfAttention(8, 2)
    x = torch.randn(1, 8, 4, 6)
    order = torch.randperm(24)
    shuffled = module(x.flatten(2)[:, :, order].view_as(x))
    torch.testing.assert_close(shuffled, module(x).flatten(2)[:, :, order].view_as(x))


def test_bad_arguments():
    with pytest.raises(ValueError, match='embed_dims must be a multiple of num_heads, got .*=10 '):
        SelfAttention(10, 3)
    with pytest.raises(ValueError, match='num_heads must be an integer of at least 1, got 0'):
        SelfAttention(8, 0)
