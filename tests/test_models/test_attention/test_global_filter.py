import pytest
import torch

from lisa_mm.models import GlobalFilter
from lisa_mm.utils.checkpoint import match_weights


def test_is_a_circular_convolution():
    torch.manual_seed(0)
    module = GlobalFilter(2, 1, reference_grid=(3, 4)).double()
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64)
    impulse = torch.fft.irfft2(torch.view_as_complex(module.filter), s=(3, 4))
    expected = torch.zeros_like(x)
    for y in range(3):
        for u in range(4):
            for v in range(3):
                for w in range(4):
                    weight = impulse[:, (y - v) % 3, (u - w) % 4]
                    expected[0, :, y, u] += weight * x[0, :, v, w]
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize('grid', [(6, 8), (7, 5), (3, 11)])
def test_is_that_of_hornet(grid):
    hornet = pytest.importorskip('mmpretrain.models.backbones.hornet')
    torch.manual_seed(0)
    other = hornet.GlobalLocalFilter(8, h=6, w=5)
    module = GlobalFilter(4, 1, reference_grid=(6, 8))
    module.load_state_dict({'filter': other.complex_weight.detach()})
    other.pre_norm, other.post_norm = torch.nn.Identity(), torch.nn.Identity()
    x = torch.randn(2, 8, *grid)
    # it interleaves the convolved half of the channels with the filtered one
    torch.testing.assert_close(module(x[:, 4:]), other(x)[:, 1::2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('grid', [(6, 8), (5, 7), (4, 1), (1, 2), (12, 9)])
def test_filter_is_the_spectrum_of_a_real_one(grid):
    """CUDA leaves the inverse transform of others undefined."""
    module = GlobalFilter(2, 1, reference_grid=(6, 8)).double()
    spectrum = module._filter_for(grid)
    impulse = torch.fft.irfft2(spectrum, s=grid)
    torch.testing.assert_close(torch.fft.rfft2(impulse), spectrum)


@pytest.mark.parametrize('grid', [(9, 6), (5, 4), (6, 8)])
def test_weights_for_another_grid(grid):
    """They are carried over once, to what they were on that grid before."""
    torch.manual_seed(0)
    module, other = GlobalFilter(4, 1, reference_grid=(6, 8)), GlobalFilter(4, 1, grid)
    x = torch.randn(2, 4, *grid)
    expected = module(x)
    match = match_weights(other, module.state_dict())
    assert (match.loaded, match.resized, match.misfits) == (1, int(grid != (6, 8)), 0)
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other(x), expected)
    with pytest.raises(RuntimeError, match='size mismatch for filter'):
        GlobalFilter(6, 1, grid).load_state_dict(module.state_dict())


def test_bad_arguments():
    with pytest.raises(ValueError, match='reference_grid must be an integer of at least 1, .* 0'):
        GlobalFilter(8, 2, reference_grid=0)
