import pytest
import reference
import torch
import torch.nn.functional as F

from lisa_mm.models import FocusedLinearAttention
from lisa_mm.ops._registration import HAS_CUSTOM_OP


@pytest.mark.parametrize('grid', [(1, 1), (3, 5), (1, 7)])
@pytest.mark.parametrize('factor', [3, 4.0])
def test_is_focused_linear_attention_and_a_convolution(grid, factor):
    torch.manual_seed(0)
    module = FocusedLinearAttention(8, 2, focusing_factor=factor, kernel_size=3).double()
    x = torch.randn(2, 8, *grid, dtype=torch.float64)
    maps = module.qkv(x).view(2, 3, 2, 4, -1)
    query, key, value = maps.transpose(-1, -2).unbind(1)

    def focus(t):
        t = t.relu() + 1e-6
        powers = t**factor
        return powers / powers.norm(dim=-1, keepdim=True) * t.norm(dim=-1, keepdim=True)

    kernel = focus(query) @ focus(key).transpose(-1, -2)
    kernel = kernel / kernel.sum(-1, keepdim=True)
    out = (kernel @ value).transpose(-1, -2).reshape(x.shape)
    weight, bias = module.conv.weight.repeat(2, 1, 1, 1), module.conv.bias.repeat(2)
    local = F.conv2d(maps[:, 2].reshape(x.shape), weight, bias, padding=1, groups=8)
    torch.testing.assert_close(module(x), module.proj(out + local))


def test_focusing_keeps_norms_and_order_and_turns_apart():
    module = FocusedLinearAttention(8, 1)
    x = torch.rand(1, 1, 8, 2, 1) + 0.1
    focused = module._focus(x)
    torch.testing.assert_close(focused.norm(dim=2), x.norm(dim=2), rtol=1e-4, atol=1e-4)
    assert torch.equal(focused.argsort(2), x.argsort(2))
    a, b = x[0, 0, :, 0, 0], x[0, 0, :, 1, 0].flip(0)
    a, b = a.sort().values, b.sort(descending=True).values  # of different largest channels
    pair = torch.stack([a, b], 1)[None, None, ..., None]
    apart = module._focus(pair)[0, 0, ..., 0]
    assert F.cosine_similarity(*apart.T, dim=0) < F.cosine_similarity(a, b, dim=0)


@pytest.mark.parametrize('factor', [3, 5, 8])
def test_queries_without_a_positive_channel(factor):
    module = FocusedLinearAttention(8, 2, focusing_factor=factor)
    query, key, value = torch.randn(3, 1, 2, 4, 3, 5).unbind()
    query[..., 1, 2] = -1
    key[..., 0, 0] = -1
    query.requires_grad_()
    out = module.attend(query, key, value)
    out.sum().backward()
    assert out.isfinite().all() and query.grad.isfinite().all()


@pytest.mark.skipif(not HAS_CUSTOM_OP, reason='early versions have no float16 on a CPU')
@pytest.mark.parametrize('dead', [0.95, 1.0])
def test_keys_without_a_positive_channel_in_half_precision(dead):
    torch.manual_seed(0)
    module = FocusedLinearAttention(8, 2)
    query, key, value = torch.randn(3, 1, 2, 4, 20, 21).unbind()
    key = torch.where(torch.rand(1, 1, 1, 20, 21) < dead, -key.abs(), key)
    with torch.no_grad():
        expected = module.attend(query, key, value)
        with torch.autocast('cpu', torch.float16):
            out = module.attend(query.half(), key.half(), value.half())
    assert reference.relative_error(out.float(), expected) < 0.02


def test_bad_arguments():
    with pytest.raises(ValueError, match='focusing_factor must be a positive number, got nan'):
        FocusedLinearAttention(8, 2, focusing_factor=float('nan'))
    with pytest.raises(ValueError, match='focusing_factor must be a positive number, got 0'):
        FocusedLinearAttention(8, 2, focusing_factor=0)
    with pytest.raises(ValueError, match="must be a positive number, got '3'"):
        FocusedLinearAttention(8, 2, focusing_factor='3')
    with pytest.raises(ValueError, match='kernel_size must be a positive odd integer, got 4'):
        FocusedLinearAttention(8, 2, kernel_size=4)
