import math

import pytest
import torch
from torch import nn

from lisa_mm.models import GaussianAttention


def with_radii(*radii):
    module = GaussianAttention(2, len(radii))
    module.value, module.proj = nn.Identity(), nn.Identity()
    module.rpe_log_radius.data = torch.tensor(radii).log()
    return module.double()


def test_weights_are_gaussians_of_the_distance():
    module = with_radii(0.7, 3.0)
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64)
    places = [(y, u) for y in range(4) for u in range(5)]
    for channel, radius in enumerate((0.7, 3.0)):
        for y, u in places:
            weights = [
                math.exp(-((v - y) ** 2 + (w - u) ** 2) / (2 * radius**2)) for v, w in places
            ]
            seen = sum(a * x[0, channel, v, w] for a, (v, w) in zip(weights, places))
            found = module(x)[0, channel, y, u].item()
            assert found == pytest.approx(seen.item() / sum(weights), abs=1e-6)


def test_without_a_radius_it_is_the_identity():
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(with_radii(0.05, 0.01)(x), x)


def test_a_large_radius_gives_the_mean():
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64)
    mean = x.mean((2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(with_radii(1e4, 1e5)(x), mean, rtol=1e-5, atol=1e-6)


def test_radii_start_in_geometric_progression():
    radii = GaussianAttention(8, 4, init_radius=(1, 8)).rpe_log_radius.exp()
    torch.testing.assert_close(radii, torch.tensor([1.0, 2.0, 4.0, 8.0]))


@pytest.mark.parametrize('init_radius', [(0, 1), (1,), 2.0, ('a', 'b'), (1, float('inf'))])
def test_bad_arguments(init_radius):
    with pytest.raises(ValueError, match='init_radius must be two positive numbers, got '):
        GaussianAttention(8, 2, init_radius=init_radius)
