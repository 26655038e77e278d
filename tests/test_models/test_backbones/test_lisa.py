import math

import pytest
import torch
from torch import nn

from lisa_mm.models import LiSA, StructureAwareAttention
from lisa_mm.models.backbones.lisa import STRIDES
from lisa_mm.ops._choice import choose_impl
from lisa_mm.ops._fourier import fft_size
from lisa_mm.registry import MODELS

MINI = dict(
    embed_dims=(8, 16, 24, 32),
    depths=(1, 1, 2, 1),
    num_heads=(1, 2, 3, 4),
    num_patterns=(1, 2, 1, 1),
    rpe_radius=(5, 5, 3, (2, 1)),
    mlp_ratios=(2, 2, 2, 2),
)


@MODELS.register_module()
class MeanMixer(nn.Module):
    """A foreign attention, with no more than the interface asks for."""

    def __init__(self, embed_dims, num_heads, init_cfg=None):
        super().__init__()
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)
        nn.init.constant_(self.proj.bias, 3)
        self.num_heads = num_heads

    def forward(self, x):
        return x + self.proj(x).mean((2, 3), keepdim=True)


@pytest.mark.parametrize('size', [(32, 32), (224, 224), (225, 193), (64, 640), (1, 1), (33, 250)])
def test_features(size):
    model = LiSA(MINI).eval()
    features = model(torch.randn(2, 3, *size))
    assert isinstance(features, tuple)
    assert len(features) == 4
    for feature, dim, stride in zip(features, MINI['embed_dims'], STRIDES):
        assert feature.shape == (2, dim, *(math.ceil(length / stride) for length in size))
        assert feature.is_contiguous()
        assert feature.isfinite().all()


@pytest.mark.parametrize('arch', sorted(LiSA.arch_zoo))
def test_arch_zoo(arch):
    torch.manual_seed(0)
    model = LiSA(arch, drop_path_rate=0.1).train()
    features = model(torch.randn(1, 3, 64, 96))
    assert [feature.shape[1] for feature in features] == list(LiSA.arch_zoo[arch]['embed_dims'])
    sum(feature.square().mean() for feature in features).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def count_flops(model, size):
    """Multiply-adds of convolutions and of the operator, FFTs at 1.25 s log2 s."""
    flops = 0

    def conv(module, _, out):
        nonlocal flops
        flops += out[0, 0].numel() * module.weight.numel()

    def attention(module, inputs, _):
        nonlocal flops
        grid = inputs[0].shape[-2:]
        patterns, channels, heads = module.num_patterns, module.embed_dims, module.num_heads
        tokens = grid[0] * grid[1]
        table = module.rpe_encoder
        shape = 1, heads, channels // heads, *grid
        impl = choose_impl(module.impl, shape, table.shape, module.boundary, table.device)
        if impl == 'dense':
            # kernels from q and k, patterns, structure-aware kernels, output
            flops += tokens**2 * (2 * channels + 2 * heads * patterns)
            return
        radius = [extent // 2 for extent in table.shape[2:]]
        points = math.prod(fft_size(grid, radius, module.boundary))
        transforms = 2 * channels * (1 + patterns)  # of k and v, and back for every pattern
        flops += transforms * 1.25 * points * math.log2(points)
        flops += 2 * channels * patterns * 4 * points / 2  # complex products of half spectra
        flops += 2 * channels * patterns * tokens

    hooks = {nn.Conv2d: conv, StructureAwareAttention: attention}
    for module in model.modules():
        if type(module) in hooks:
            module.register_forward_hook(hooks[type(module)])
    with torch.no_grad():
        model(torch.zeros(1, 3, *size))
    return flops


@pytest.mark.parametrize(
    ('arch', 'params', 'gflops'),
    [('tiny', (11.9, 14.0), (2.1, 2.5)), ('small', (23.8, 28.0), (4.1, 4.8))],
)
def test_budget(arch, params, gflops):
    model = LiSA(arch).eval()
    assert params[0] < sum(p.numel() for p in model.parameters()) / 1e6 < params[1]
    assert gflops[0] < count_flops(model, (224, 224)) / 1e9 < gflops[1]


def test_out_indices():
    torch.manual_seed(0)
    model = LiSA(MINI).eval()
    x = torch.randn(1, 3, 40, 40)
    every = model(x)
    some = LiSA(MINI, out_indices=(1, 3)).eval()
    missing, unexpected = some.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    assert {key.split('.')[0] for key in unexpected} == {'norm0', 'norm2'}
    for feature, expected in zip(some(x), (every[1], every[3])):
        torch.testing.assert_close(feature, expected)


def test_every_parameter_is_needed_whatever_the_outputs():
    model = LiSA(MINI, out_indices=(0, 1))
    sum(feature.sum() for feature in model(torch.randn(1, 3, 64, 64))).backward()
    assert len(model.stages) == 2
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_an_attention_keeps_its_own_initialisation():
    model = LiSA(MINI, attention=dict(type='MeanMixer'))
    assert all((block.attention.proj.bias == 3).all() for block in model.stages[2])


def test_batch_of_two_is_two_batches_of_one():
    torch.manual_seed(0)
    model = LiSA(MINI).eval()
    x = torch.randn(2, 3, 50, 70)
    for both, first, second in zip(model(x), model(x[:1]), model(x[1:])):
        torch.testing.assert_close(both, torch.cat([first, second]), rtol=1e-4, atol=1e-5)


def test_drop_path_rate_grows_to_the_last_block():
    model = LiSA(MINI, drop_path_rate=0.4)
    rates = [block.drop_path.drop_prob for stage in model.stages for block in stage]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_other_input_channels():
    assert len(LiSA(MINI, in_channels=5)(torch.randn(1, 5, 32, 32))) == 4


def test_attention_gets_what_the_stage_offers():
    model = LiSA(MINI, pretrain_img_size=(225, 96))
    attention = model.stages[1][0].attention
    assert attention.num_patterns == 2
    assert attention.rpe_encoder.shape == (2, 2, 11, 11)
    assert model.stages[3][0].attention.rpe_encoder.shape == (4, 1, 5, 3)
    config = dict(type='StructureAwareAttention', num_patterns=3, resolution='interpolate')
    model = LiSA(MINI, attention=config, pretrain_img_size=(225, 96))
    attention = model.stages[1][0].attention
    assert attention.num_patterns == 3
    assert attention.rpe_encoder.shape == (2, 3, 11, 11)
    assert attention.reference_grid.tolist() == [29, 12]


@pytest.mark.parametrize('kind', ['MeanMixer', 'lisa_mm.MeanMixer', MeanMixer])
def test_another_attention_takes_the_slot(kind):
    model = LiSA(MINI, attention=dict(type=kind))
    attentions = [block.attention for stage in model.stages for block in stage]
    assert all(isinstance(attention, MeanMixer) for attention in attentions)
    assert [attention.num_heads for attention in attentions] == [1, 2, 3, 3, 4]
    assert model(torch.randn(1, 3, 64, 64))[3].shape == (1, 32, 2, 2)


def test_init_cfg_loads_the_backbone_of_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    model = LiSA(MINI)
    state = {f'backbone.{key}': value for key, value in model.state_dict().items()}
    path = tmp_path / 'classifier.pth'
    torch.save(dict(state_dict={**state, 'head.fc.weight': torch.zeros(2, 2)}), path)
    arch = {**MINI, 'rpe_radius': (7, 5, 3, (2, 1))}  # other tables in the first stage
    loaded = LiSA(arch, init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix='backbone.'))
    loaded.init_weights()
    for (key, value), (_, expected) in zip(loaded.state_dict().items(), model.state_dict().items()):
        if value.shape != expected.shape:
            value = value[:, :, 2:-2, 2:-2]
        torch.testing.assert_close(value, expected, msg=key)


def test_state_dict_round_trip():
    torch.manual_seed(0)
    model, other = LiSA(MINI).eval(), LiSA(MINI).eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 45, 64)
    for feature, expected in zip(other(x), model(x)):
        torch.testing.assert_close(feature, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        (dict(arch='huge'), ValueError, "arch must be one of 'tiny', 'small', .* got 'huge'"),
        (dict(arch=3), TypeError, 'arch must be a name or a dict, got int'),
        (
            dict(arch={**{k: v for k, v in MINI.items() if k != 'depths'}, 'deep': 1}),
            ValueError,
            r"missing: \['depths'\], unknown: \['deep'\]",
        ),
        (
            dict(arch={**MINI, 'depths': (1, 1, 1)}),
            ValueError,
            r"arch\['depths'\] must have 4 values, one per stage, got \(1, 1, 1\)",
        ),
        (
            dict(arch={**MINI, 'num_heads': (1, 2, 5, 4)}),
            ValueError,
            'embed_dims must be a multiple of num_heads, got embed_dims=24 and num_heads=5',
        ),
        (
            dict(arch={**MINI, 'rpe_radius': (1, 1, 1, -2)}),
            ValueError,
            r"arch\['rpe_radius'\]\[3\] must be an integer of at least 0, .* got -2",
        ),
        (
            dict(arch={**MINI, 'depths': (1, 1.5, 1, 1)}),
            ValueError,
            r"arch\['depths'\]\[1\] must be an integer of at least 1, got 1.5",
        ),
        (
            dict(arch={**MINI, 'mlp_ratios': (0, 4, 4, 4)}),
            ValueError,
            r"arch\['mlp_ratios'\]\[0\] must be a positive number, got 0",
        ),
        (dict(in_channels=0), ValueError, 'in_channels must be an integer of at least 1, got 0'),
        (dict(pretrain_img_size='224'), ValueError, "pretrain_img_size must be .* got '224'"),
        (dict(out_indices=(0, 4)), ValueError, r'out_indices must .* got \(0, 4\)'),
        (dict(out_indices=()), ValueError, r'out_indices must name stages'),
        (dict(out_indices=3), ValueError, r'out_indices must name stages .* got 3'),
        (dict(drop_path_rate=1.0), ValueError, r'drop_path_rate must be in \[0, 1\), got 1.0'),
        (dict(attention=dict(num_patterns=2)), ValueError, 'attention must be a config with a reg'),
    ],
)
def test_bad_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        LiSA(**{'arch': MINI, **kwargs})


def test_unknown_attention():
    with pytest.raises((KeyError, RuntimeError, ValueError), match='NoSuchAttention'):
        LiSA(MINI, attention=dict(type='NoSuchAttention'))
