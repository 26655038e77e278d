import pytest
import torch

from lisa_mm.models import LinearAttention


@pytest.mark.parametrize('grid', [(1, 1), (3, 5), (1, 7)])
def test_is_the_taylor_expansion_of_softmax_attention(grid):
    torch.manual_seed(0)
    module = LinearAttention(8, 2).double()
    x = torch.randn(2, 8, *grid, dtype=torch.float64)
    query, key, value = module.qkv(x).view(2, 3, 2, 4, -1).transpose(-1, -2).unbind(1)
    query, key = (t / t.norm(dim=-1, keepdim=True) for t in (query, key))
    kernel = 1 + query @ key.transpose(-1, -2)
    kernel = kernel / kernel.sum(-1, keepdim=True)
    out = (kernel @ value).transpose(-1, -2).reshape(x.shape)
    torch.testing.assert_close(module(x), module.proj(out))


def test_keys_opposite_to_a_query_give_no_infinity():
    module = LinearAttention(4, 1)
    query = torch.ones(1, 1, 4, 2, 3, requires_grad=True)
    out = module.attend(query, -query.detach(), torch.randn(1, 1, 4, 2, 3))
    out.sum().backward()
    assert out.isfinite().all() and query.grad.isfinite().all()
