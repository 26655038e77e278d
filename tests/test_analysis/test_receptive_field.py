import pytest
import torch

from lisa_mm.analysis import effective_receptive_field
from lisa_mm.analysis.receptive_field import half_mass_side
from lisa_mm.models import LiSA

ARCH = dict(
    embed_dims=(4, 4, 8, 8),
    depths=(1, 1, 1, 1),
    num_heads=(1, 1, 1, 1),
    num_patterns=(1, 1, 1, 1),
    rpe_radius=(2, 1, 1, 1),
    mlp_ratios=(2, 2, 2, 2),
)
NORM = dict(type='LN2d')  # one that does not look at other positions


def test_is_where_a_change_is_felt():
    torch.manual_seed(0)
    attention = dict(type='DepthwiseConv', kernel_size=3)
    backbone = LiSA(ARCH, attention=attention, norm_cfg=NORM, out_indices=(0,)).double().eval()
    images = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    (field,) = effective_receptive_field(backbone, [images])
    assert field.sum().item() == pytest.approx(1)

    def middle(x):
        map = backbone.stages[0](backbone.downsamples[0](x))
        return map[0, :, map.shape[2] // 2, map.shape[3] // 2].sum().item()

    expected = torch.zeros(64, 96, dtype=torch.float64)
    step = 1e-6
    for y in range(20, 48):
        for x in range(36, 64):
            for channel in range(3):
                move = torch.zeros_like(images)
                move[0, channel, y, x] = step
                change = middle(images + move) - middle(images - move)
                expected[y, x] += abs(change) / (2 * step)
    tried = torch.zeros_like(field, dtype=torch.bool)
    tried[20:48, 36:64] = True
    assert field[~tried].max() < 1e-12
    torch.testing.assert_close(field, expected / expected.sum(), rtol=1e-4, atol=1e-7)


def test_grows_with_the_stages_and_is_a_mean():
    torch.manual_seed(0)
    backbone = LiSA(ARCH, norm_cfg=NORM).eval()
    images = torch.randn(3, 3, 64, 64)
    fields = effective_receptive_field(backbone, images.split(1))
    assert [field.shape for field in fields] == [(64, 64)] * 4
    # FFTs leave rounding errors elsewhere
    reach = [(field > 1e-5 * field.max()).sum().item() for field in fields]
    assert reach[0] < reach[1] < min(reach[2:])
    together = effective_receptive_field(backbone, [images])
    for field, other in zip(fields, together):
        torch.testing.assert_close(field, other)
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_half_mass_side():
    field = torch.zeros(9, 13)
    field[4, 6] = 1
    assert half_mass_side(field) == 1
    field[3:6, 5:8] = 1
    assert half_mass_side(field) == 3
    with pytest.raises(ValueError, match='values that are not finite'):
        half_mass_side(torch.full((3, 3), torch.nan))
    with pytest.raises(ValueError, match='is empty: all its values are zero'):
        half_mass_side(torch.zeros(3, 3))
    assert half_mass_side(torch.ones(9, 13)) == 9  # 81 of 117, and 49 for 7


@pytest.mark.parametrize('start', [0, 100, 128])
def test_half_mass_side_is_about_the_field(start):
    field = torch.zeros(256, 256)
    field[128:160, start : start + 32] = 1
    assert half_mass_side(field) == 23  # 529 of 1024


def test_bad_input():
    backbone = LiSA(ARCH)
    with pytest.raises(ValueError, match='there are no images to compute receptive fields on'):
        effective_receptive_field(backbone, [])
    images = [torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 64)]
    with pytest.raises(ValueError, match=r'of one size, got \(32, 32\) and \(32, 64\)'):
        effective_receptive_field(backbone, images)
