import math
from itertools import combinations, product

import pytest
import torch
from torch import nn

from lisa_mm.analysis import kernel_redundancy
from lisa_mm.analysis.inspection import attentions_of, record, spread_positions
from lisa_mm.models import LiSA
from lisa_mm.registry import MODELS

ARCH = dict(
    embed_dims=(8, 8, 16, 16),
    depths=(1, 1, 3, 1),
    num_heads=(1, 2, 4, 2),
    num_patterns=(1, 2, 1, 1),
    rpe_radius=(3, 3, 2, 1),
    mlp_ratios=(2, 2, 2, 2),
)


@MODELS.register_module()
class UniformAttention(nn.Module):
    """All queries of all heads see all positions alike."""

    def __init__(self, embed_dims, num_heads, init_cfg=None):
        super().__init__()
        self.num_heads = num_heads

    def forward(self, x):
        return x.mean((2, 3), keepdim=True).expand_as(x)

    def kernels(self, x, positions):
        height, width = x.shape[-2:]
        kernels = x.new_full((height, width), 1 / (height * width))
        return kernels.expand(len(x), self.num_heads, len(positions), height, width)


def cosine(a, b):
    return (a @ b / a.norm() / b.norm()).item()


def correlation(a, b):
    return abs(cosine(a - a.mean(), b - b.mean()))


def test_chance_is_what_white_noise_gives():
    torch.manual_seed(0)
    backbone = LiSA(ARCH).eval()
    layers = kernel_redundancy(backbone, [torch.randn(1, 3, 64, 96)], 1)
    assert [layer.grid for layer in layers[:3]] == [(16, 24), (8, 12), (4, 6)]
    for layer in layers:
        noise = torch.randn(2, 20000, math.prod(layer.grid))
        noise = nn.functional.normalize(noise - noise.mean(-1, keepdim=True), dim=-1)
        assert layer.chance == pytest.approx(noise.prod(0).sum(-1).abs().mean().item(), rel=0.03)
    chances = [layer.chance for layer in kernel_redundancy(backbone, [torch.randn(1, 3, 32, 64)])]
    assert chances[-1] == pytest.approx(1)  # two positions
    assert kernel_redundancy(backbone, [torch.randn(1, 3, 32, 32)])[-1].chance is None


@pytest.mark.parametrize('attention', ['StructureAwareAttention', 'SelfAttention'])
def test_is_the_mean_over_pairs(attention):
    torch.manual_seed(0)
    backbone = LiSA(ARCH, attention=dict(type=attention)).eval()
    images = [torch.randn(2, 3, 64, 96), torch.randn(1, 3, 64, 96)]
    found = {layer.layer: layer for layer in kernel_redundancy(backbone, images, 6)}
    modules = attentions_of(backbone)
    assert list(found) == list(modules)
    names = ['stages.2.0', 'stages.2.1', 'stages.2.2']
    kernels = {name: [] for name in names}  # of all images, (N, G, K, H W)
    for batch in images:
        for name, (x, _) in record(backbone, batch, modules).items():
            if name in names:
                positions = spread_positions(x.shape[-2:], 6)
                kernels[name].append(modules[name].kernels(x, positions).flatten(3).detach())
    kernels = {name: torch.cat(parts).double() for name, parts in kernels.items()}
    for name in names:
        own = kernels[name]
        heads, layers, entropies = [], [], []
        for b in range(own.shape[0]):
            for k in range(own.shape[2]):
                heads += [(own[b, g, k], own[b, h, k]) for g, h in combinations(range(4), 2)]
                layers += [
                    (own[b, g, k], kernels[other][b, h, k])
                    for other in names
                    if other != name
                    for g, h in product(range(4), range(4))
                ]
                for g in range(4):
                    share = own[b, g, k].abs() / own[b, g, k].abs().sum()
                    entropy = -sum(p * math.log(p) for p in share.tolist() if p > 0)
                    entropies.append(entropy / math.log(len(share)))
        layer = found[name]
        assert layer.grid == (4, 6) and layer.heads == 4
        for value, values in (
            (layer.head_cosine, [cosine(*pair) for pair in heads]),
            (layer.head_correlation, [correlation(*pair) for pair in heads]),
            (layer.layer_cosine, [cosine(*pair) for pair in layers]),
            (layer.layer_correlation, [correlation(*pair) for pair in layers]),
            (layer.entropy, entropies),
        ):
            assert value == pytest.approx(sum(values) / len(values), abs=1e-5)
    assert found['stages.0.0'].head_cosine is None  # one head
    assert found['stages.1.0'].layer_cosine is None  # no other layer on its grid


def test_kernels_that_are_constant():
    backbone = LiSA(ARCH, attention=dict(type='UniformAttention')).eval()
    for layer in kernel_redundancy(backbone, [torch.randn(1, 3, 64, 64)])[1:]:
        assert layer.head_cosine == pytest.approx(1, abs=1e-5)
        assert layer.head_correlation is None  # there is nothing to correlate
        assert layer.entropy == pytest.approx(1, abs=1e-5)
        if layer.layer.startswith('stages.2'):
            assert layer.layer_cosine == pytest.approx(1, abs=1e-5)


def test_opposite_kernels_are_redundant(monkeypatch):
    """What comes after the attention can turn the sign."""

    def opposite(self, x, positions):
        height, width = x.shape[-2:]
        kernel = torch.arange(height * width, dtype=torch.float32).view(height, width)
        signs = torch.tensor([-1.0, 1.0]).repeat(self.num_heads)[: self.num_heads]
        kernels = signs[:, None, None, None] * kernel
        return kernels.expand(len(x), -1, len(positions), -1, -1)

    monkeypatch.setattr(UniformAttention, 'kernels', opposite)
    backbone = LiSA(ARCH, attention=dict(type='UniformAttention')).eval()
    for layer in kernel_redundancy(backbone, [torch.randn(1, 3, 64, 64)])[1:]:
        assert layer.head_correlation == pytest.approx(1, abs=1e-5)
        assert layer.head_cosine < 0


def test_a_grid_of_one_position_has_no_entropy():
    backbone = LiSA(ARCH).eval()
    assert kernel_redundancy(backbone, [torch.randn(1, 3, 32, 32)])[-1].entropy is None


def test_bad_input():
    backbone = LiSA(ARCH).eval()
    with pytest.raises(ValueError, match='there are no images to measure kernels on'):
        kernel_redundancy(backbone, [])
    images = [torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 64)]
    with pytest.raises(ValueError, match=r'must be of one size, got \(32, 32\) and \(32, 64\)'):
        kernel_redundancy(backbone, images)
    backbone = LiSA(ARCH, attention=dict(type='ExternalAttention')).eval()
    with pytest.raises(ValueError, match=r"has kernels over positions: \['ExternalAttention'\]"):
        kernel_redundancy(backbone, images[:1])
