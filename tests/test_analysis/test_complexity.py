import math

import pytest
import torch
from torch import nn

from lisa_mm.analysis import count_complexity, matched_mlp_ratios
from lisa_mm.models import LiSA, StructureAwareAttention
from lisa_mm.ops import correlate
from lisa_mm.ops._registration import HAS_CUSTOM_OP


def total(model, *inputs):
    return count_complexity(model, lambda: model(*inputs))[-1]


@pytest.mark.parametrize(
    ('model', 'shape', 'expected'),
    [
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), (1, 4, 5, 7), 5 * 7 * 6 * 2 * 9),
        (nn.ConvTranspose2d(4, 6, 2, 2), (1, 4, 5, 7), 5 * 7 * 4 * 6 * 4),
        (nn.Linear(4, 6), (3, 5, 4), 3 * 5 * 4 * 6),
        (nn.Linear(4, 6, bias=False), (5, 4), 5 * 4 * 6),
    ],
)
def test_layers(model, shape, expected):
    found = total(model, torch.zeros(shape))
    assert found.multiply_adds == expected
    assert found.activations == model(torch.zeros(shape)).numel()
    assert found.parameters == sum(p.numel() for p in model.parameters())


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


def test_attention_and_products():
    query, key, value = torch.zeros(1, 2, 10, 4), torch.zeros(1, 2, 12, 4), torch.zeros(1, 2, 12, 6)
    model = Function(nn.functional.scaled_dot_product_attention)
    assert total(model, query, key, value).multiply_adds == 2 * 10 * 12 * (4 + 6)
    # with a mask PyTorch takes another way
    assert total(model, query, key, value, torch.zeros(10, 12)).multiply_adds == 2 * 10 * 12 * 10
    model = Function(torch.baddbmm)
    out = total(model, torch.zeros(2, 3, 5), torch.zeros(2, 3, 4), torch.zeros(2, 4, 5))
    assert out.multiply_adds == 2 * 3 * 4 * 5


def test_transforms():
    x = torch.zeros(2, 3, 8, 10)
    real = 1.25 * 2 * 3 * 80 * math.log2(80)
    assert total(Function(torch.fft.rfft2), x).multiply_adds == pytest.approx(real)
    back = Function(lambda x: torch.fft.irfft2(x, s=(8, 10)))
    assert total(back, torch.fft.rfft2(x)).multiply_adds == pytest.approx(real)
    assert total(Function(torch.fft.fft2), x.cfloat()).multiply_adds == pytest.approx(2 * real)


@pytest.mark.skipif(not HAS_CUSTOM_OP, reason='counted by its FFTs there')
@pytest.mark.parametrize('boundary', ['zero', 'circular'])
def test_operator(boundary):
    module = StructureAwareAttention(8, 2, num_patterns=3, rpe_radius=4, boundary=boundary)
    module.impl = 'fft'
    x = torch.zeros(2, 8, 9, 12)
    points = 16 * 16 if boundary == 'zero' else 9 * 12
    transforms = 2 * 8 * 4 * 1.25 * points * math.log2(points)
    products = 2 * 8 * 3 * (2 * points + 9 * 12)
    convolutions = 4 * 8 * 8 * 9 * 12
    for training in (False, True):
        found = total(module.train(training), x).multiply_adds
        assert found == pytest.approx(2 * (transforms + products + convolutions))
    module.impl = 'dense'
    expected = 2 * (2 * (9 * 12) ** 2 * (8 + 2 * 3) + convolutions)
    assert total(module, x).multiply_adds == pytest.approx(expected)
    table = torch.zeros(2, 3, 9, 9)
    for impl, expected in (
        ('dense', 2 * 4 * 3 * (9 * 12) ** 2),
        ('fft', (transforms + 2 * 8 * 3 * points * 2) / 2),
    ):
        model = Function(lambda x, impl=impl: correlate(x, table, boundary, impl))
        found = total(model, torch.zeros(1, 2, 4, 9, 12)).multiply_adds
        assert found == pytest.approx(expected)


@pytest.mark.skipif(not hasattr(torch.backends, 'mha'), reason='opaque there in evaluation')
def test_transformer_layers_of_pytorch():
    query = torch.zeros(1, 10, 8)
    model = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    expected = 4 * 10 * 8 * 8 + 2 * 10 * 10 * 8
    assert total(model, query, query, query).multiply_adds == expected
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    assert total(model, query).multiply_adds == expected + 2 * 10 * 8 * 16


def test_parts():
    model = nn.Module()
    model.backbone = LiSA('tiny')
    model.head = nn.Conv2d(512, 2, 1)
    # without a call of the head as a module, as detectors have it
    run = lambda: model.head.forward(model.backbone(torch.zeros(1, 3, 64, 64))[-1])  # noqa: E731
    *parts, whole = count_complexity(model, run)
    names = [part.name for part in parts]
    assert [name for name in names if 'stages' in name] == [
        f'backbone.stages.{i}' for i in range(4)
    ]
    assert names[-1] == 'head'
    assert sum(part.parameters for part in parts) == whole.parameters
    head = 2 * 2 * 512 * 2
    assert sum(part.multiply_adds for part in parts) == pytest.approx(whole.multiply_adds - head)
    stage = next(part for part in parts if part.name == 'backbone.stages.0')
    assert stage.multiply_adds > 0 and stage.activations > 0


def test_leaves_the_model_as_it_was():
    model = LiSA('tiny', frozen_stages=1)
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    hooks = sum(len(module._forward_hooks) for module in model.modules())
    total(model, torch.zeros(1, 3, 32, 32))
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert sum(len(module._forward_hooks) for module in model.modules()) == hooks
    with pytest.raises(RuntimeError):
        total(model, torch.zeros(1, 5, 32, 32))
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted


@pytest.mark.parametrize('attention', ['SelfAttention', 'DepthwiseConv', 'GlobalFilter'])
def test_matched_mlps(attention):
    """As many parameters, but for less than half a hidden channel of every block."""
    own = dict(type='LiSA', arch='tiny', pretrain_img_size=64)
    changed = dict(own, attention=dict(type=attention))
    ratios = matched_mlp_ratios(own, changed)
    arch = dict(LiSA.arch_zoo['tiny'], mlp_ratios=ratios)
    sizes = [
        sum(p.numel() for p in LiSA(**{k: v for k, v in cfg.items() if k != 'type'}).parameters())
        for cfg in (own, dict(changed, arch=arch))
    ]
    granularity = sum(
        depth * (2 * dim + 1)
        for depth, dim in zip(LiSA.arch_zoo['tiny']['depths'], LiSA.arch_zoo['tiny']['embed_dims'])
    )
    assert abs(sizes[0] - sizes[1]) <= granularity


def test_mlps_that_would_have_to_vanish():
    small = dict(type='LiSA', arch=dict(LiSA.arch_zoo['tiny'], mlp_ratios=(0.1,) * 4))
    small['attention'] = dict(type='DepthwiseConv')
    with pytest.raises(ValueError, match="SelfAttention'} has too many parameters to be compared"):
        matched_mlp_ratios(small, dict(small, attention=dict(type='SelfAttention')))
