import pytest
import torch

from lisa_mm.models import WindowAttention


def build(**kwargs):
    torch.manual_seed(0)
    module = WindowAttention(8, 2, **kwargs)
    torch.nn.init.normal_(module.rpe_bias)
    return module


@pytest.mark.parametrize('shift', [False, True])
@pytest.mark.parametrize('grid', [(8, 12), (12, 8)])
def test_is_that_of_swin(grid, shift):
    swin = pytest.importorskip('mmdet.models.backbones.swin')
    module = build(window_size=4, shift=shift)
    other = swin.ShiftWindowMSA(8, 2, window_size=4, shift_size=2 * shift)
    state = {
        name: value[:, :, 0, 0] if value.dim() == 4 else value
        for name, value in module.state_dict().items()
    }
    # its table is flat, and for the offset from key to query
    state['relative_position_bias_table'] = state.pop('rpe_bias').flip(1, 2).flatten(1).T
    state['relative_position_index'] = other.w_msa.relative_position_index
    other.w_msa.load_state_dict(state)
    x = torch.randn(2, 8, *grid)
    expected = other(x.flatten(2).transpose(1, 2), grid).transpose(1, 2).view_as(x)
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('shift', [False, True])
def test_windows_do_not_see_each_other(shift):
    module = build(window_size=4, shift=shift)
    x = torch.randn(1, 8, 10, 9)
    changed = x.clone()
    changed[..., 4:8, 0:4] += 1
    moved = (module(changed) - module(x)).abs().amax((0, 1)) > 1e-6
    expected = torch.zeros(10, 9, dtype=torch.bool)
    if shift:  # windows start at 2 and 6
        expected[2:10, 0:6] = True
    else:
        expected[4:8, 0:4] = True
    assert torch.equal(moved, expected)


def test_one_window_is_not_shifted():
    module, shifted = build(window_size=7), build(window_size=7, shift=True)
    x = torch.randn(1, 8, 7, 5)
    torch.testing.assert_close(shifted(x), module(x))


def test_bad_arguments():
    with pytest.raises(ValueError, match='window_size must be an integer of at least 1, got 0'):
        WindowAttention(8, 2, window_size=0)
