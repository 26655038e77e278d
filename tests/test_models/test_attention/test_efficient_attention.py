import pytest
import torch

from lisa_mm.models import EfficientAttention


@pytest.mark.parametrize('grid', [(1, 1), (3, 5), (1, 7)])
def test_is_the_product_of_two_softmaxes(grid):
    torch.manual_seed(0)
    module = EfficientAttention(8, 2).double()
    x = torch.randn(2, 8, *grid, dtype=torch.float64)
    query, key, value = module.qkv(x).view(2, 3, 2, 4, -1).transpose(-1, -2).unbind(1)
    kernel = query.softmax(-1) @ key.softmax(-2).transpose(-1, -2)  # (B, G, N, N)
    out = (kernel @ value).transpose(-1, -2).reshape(x.shape)
    torch.testing.assert_close(module(x), module.proj(out))
