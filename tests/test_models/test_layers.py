import pytest
import torch

from lisa_mm.models.layers import DropPath, LayerNorm2d, LayerScale, build_norm


def test_group_norm_is_over_channels_and_positions():
    norm = build_norm(dict(type='GN', num_groups=1), 6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = 3 * torch.randn(2, 6, 3, 5) + 1
    mean = x.mean((1, 2, 3), keepdim=True)
    var = x.var((1, 2, 3), keepdim=True, unbiased=False)
    expected = (x - mean) / (var + norm.eps).sqrt()
    expected = expected * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    torch.testing.assert_close(norm(x), expected)


def test_layer_norm_is_over_channels():
    norm = LayerNorm2d(6)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 6, 3, 5)
    mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    expected = (x - mean) / (var + norm.eps).sqrt() * norm.weight.view(-1, 1, 1)
    torch.testing.assert_close(norm(x), expected)


def test_build_norm():
    assert isinstance(build_norm(dict(type='SyncBN'), 4), torch.nn.SyncBatchNorm)
    assert build_norm(dict(type='LN2d', eps=1e-3), 4).eps == 1e-3
    for requires_grad in (False, True):
        norm = build_norm(dict(type='BN', requires_grad=requires_grad), 4)
        assert norm.weight.requires_grad == requires_grad
    with pytest.raises(ValueError, match="'type' out of 'GN', 'LN2d', 'BN', 'SyncBN', got {}"):
        build_norm({}, 4)
    with pytest.raises(ValueError, match='not the arguments that BN takes: .*num_groups'):
        build_norm(dict(type='BN', num_groups=2), 4)
    with pytest.raises(
        ValueError, match="not the arguments that GN takes: .*missing .*'num_groups'"
    ):
        build_norm(dict(type='GN'), 4)


def test_layer_scale_is_a_factor_per_channel():
    scale = LayerScale(3, 0.5)
    torch.testing.assert_close(scale(torch.ones(2, 3, 4, 5)), torch.full((2, 3, 4, 5), 0.5))
    scale.weight.data[1] = 2
    assert (scale(torch.ones(2, 3, 4, 5))[:, 1] == 2).all()


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    drop_path = DropPath(0.25)
    out = drop_path(torch.ones(4000, 2, 3))
    assert sorted(out.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert (out == out[:, :1, :1]).all()
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    x = torch.randn(4, 2)
    assert drop_path.eval()(x) is x


def test_drop_path_checks_its_probability():
    with pytest.raises(ValueError, match=r'drop_prob must be in \[0, 1\), got 1'):
        DropPath(1)
