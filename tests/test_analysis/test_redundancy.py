import math
from itertools import combinations

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


@pytest.mark.parametrize('attention', ['StructureAwareAttention', 'SelfAttention'])
def test_is_the_mean_over_pairs(attention):
    torch.manual_seed(0)
    backbone = LiSA(ARCH, attention=dict(type=attention)).eval()
    images = [torch.randn(2, 3, 64, 96), torch.randn(2, 3, 64, 96)]
    found = {layer.layer: layer for layer in kernel_redundancy(backbone, images, 4)}
    modules = attentions_of(backbone)
    assert list(found) == list(modules)
    names = ['stages.2.0', 'stages.2.1', 'stages.2.2']
    kernels = {name: [] for name in names}  # of all images, (N, G, K, H W)
    for batch in images:
        for name, (x, _) in record(backbone, batch, modules).items():
            if name in names:
                positions = spread_positions(x.shape[-2:], 4)
                kernels[name].append(modules[name].kernels(x, positions).flatten(3).detach())
    kernels = {name: torch.cat(parts).double() for name, parts in kernels.items()}
    for name in names:
        own = kernels[name]
        queries = [(b, k) for b in range(own.shape[0]) for k in range(own.shape[2])]
        heads, centred, layers, entropies = [], [], [], []
        for b, k in queries:
            for g, h in combinations(range(4), 2):
                first, second = own[b, g, k], own[b, h, k]
                heads.append(cosine(first, second))
                centred.append(cosine(first - first.mean(), second - second.mean()))
            for g in range(4):
                for other in names:
                    if other != name:
                        layers.append(cosine(own[b, g, k], kernels[other][b, g, k]))
                share = own[b, g, k].abs() / own[b, g, k].abs().sum()
                entropy = -sum(p * math.log(p) for p in share.tolist() if p > 0)
                entropies.append(entropy / math.log(len(share)))
        layer = found[name]
        assert layer.grid == (4, 6) and layer.heads == 4
        for value, values in (
            (layer.head_cosine, heads),
            (layer.head_correlation, centred),
            (layer.layer_cosine, layers),
            (layer.entropy, entropies),
        ):
            assert value == pytest.approx(sum(values) / len(values), abs=1e-5)
    assert found['stages.0.0'].head_cosine is None  # one head
    assert found['stages.1.0'].layer_cosine is None  # no other layer on its grid


def test_kernels_that_are_all_alike():
    backbone = LiSA(ARCH, attention=dict(type='UniformAttention')).eval()
    for layer in kernel_redundancy(backbone, [torch.randn(1, 3, 64, 64)])[1:]:
        assert layer.head_cosine == pytest.approx(1, abs=1e-5)
        assert layer.entropy == pytest.approx(1, abs=1e-5)
        if layer.layer.startswith('stages.2'):
            assert layer.layer_cosine == pytest.approx(1, abs=1e-5)


def test_a_grid_of_one_position_has_no_entropy():
    backbone = LiSA(ARCH).eval()
    assert kernel_redundancy(backbone, [torch.randn(1, 3, 32, 32)])[-1].entropy is None


def test_bad_input():
    backbone = LiSA(ARCH).eval()
    with pytest.raises(ValueError, match='there are no images to measure kernels on'):
        kernel_redundancy(backbone, [])
    images = [torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 64)]
    with pytest.raises(ValueError, match=r'must be of one size, got \[\(32, 32\), \(32, 64\)\]'):
        kernel_redundancy(backbone, images)
    backbone = LiSA(ARCH, attention=dict(type='ExternalAttention')).eval()
    with pytest.raises(ValueError, match=r"has kernels over positions: \['ExternalAttention'\]"):
        kernel_redundancy(backbone, images[:1])
