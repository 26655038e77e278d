import math

import pytest
import torch
from mmengine.model.weight_init import PretrainedInit
from torch import nn

from lisa_mm.analysis import count_complexity
from lisa_mm.models import LiSA, SelfAttention, StructureAwareAttention
from lisa_mm.models.backbones.lisa import STRIDES
from lisa_mm.models.layers import LayerNorm2d
from lisa_mm.ops._registration import HAS_CUSTOM_OP
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


ATTENTIONS = {
    'structure-aware': dict(type='StructureAwareAttention'),
    'circular': dict(type='StructureAwareAttention', boundary='circular'),
    'interpolate': dict(type='StructureAwareAttention', resolution='interpolate'),
    'self-attention': dict(type='SelfAttention'),
    'position bias': dict(type='SelfAttention', position_bias=True),
    'window': dict(type='WindowAttention'),
    'halo': dict(type='HaloAttention'),
    'Gaussian': dict(type='GaussianAttention'),
    'external': dict(type='ExternalAttention'),
    'external, one head': dict(type='ExternalAttention', multi_head=False),
    'efficient': dict(type='EfficientAttention'),
    'linear': dict(type='LinearAttention'),
    'focused linear': dict(type='FocusedLinearAttention'),
    'global filter': dict(type='GlobalFilter'),
    'depthwise convolution': dict(type='DepthwiseConv'),
    'mixed': [dict(type='StructureAwareAttention')] * 2 + [dict(type='SelfAttention')] * 2,
}
every_attention = pytest.mark.parametrize('attention', ATTENTIONS.values(), ids=list(ATTENTIONS))


def mini(**kwargs):
    torch.manual_seed(0)
    return LiSA(MINI, **kwargs)


@every_attention
@pytest.mark.parametrize('size', [(32, 32), (224, 224), (225, 193), (64, 640), (1, 1), (33, 250)])
def test_features(size, attention):
    model = mini(attention=attention).eval()
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        features, again = model(x), model(x)
        single = [model(x[:1]), model(x[1:])]
    assert isinstance(features, tuple)
    assert len(features) == 4
    for i, (feature, dim, stride) in enumerate(zip(features, MINI['embed_dims'], STRIDES)):
        assert feature.shape == (2, dim, *(math.ceil(length / stride) for length in size))
        assert feature.is_contiguous()
        assert feature.isfinite().all()
        torch.testing.assert_close(again[i], feature, rtol=0, atol=0)
        # a batch of two is two batches of one
        one_by_one = torch.cat([features[i] for features in single])
        torch.testing.assert_close(feature, one_by_one, rtol=1e-4, atol=2e-5)


@every_attention
def test_every_parameter_gets_a_gradient(attention):
    model = mini(attention=attention, drop_path_rate=0.1, layer_scale_init_value=0.1).train()
    sum(feature.square().mean() for feature in model(torch.randn(2, 3, 64, 96))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@every_attention
def test_checkpointing_gives_the_same_output_and_gradients(attention):
    x = torch.randn(2, 3, 40, 70)
    found = {}
    for with_cp in (False, True):
        model = mini(attention=attention, drop_path_rate=0.3, with_cp=with_cp).train()
        torch.manual_seed(1)  # what is dropped
        features = model(x)
        sum(feature.square().sum() for feature in features).backward()
        found[with_cp] = [*features, *(parameter.grad for parameter in model.parameters())]
    for plain, checkpointed in zip(found[False], found[True]):
        torch.testing.assert_close(checkpointed, plain)


@every_attention
def test_state_dict_round_trip(attention):
    model = mini(attention=attention).eval()
    other = LiSA(MINI, attention=attention).eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 45, 64)
    for feature, expected in zip(other(x), model(x)):
        torch.testing.assert_close(feature, expected, rtol=0, atol=0)


@every_attention
def test_channels_last_gives_the_same(attention):
    model = mini(attention=attention).eval()
    x = torch.randn(2, 3, 40, 70)
    expected = model(x)
    model.to(memory_format=torch.channels_last)
    for feature, plain in zip(model(x.contiguous(memory_format=torch.channels_last)), expected):
        torch.testing.assert_close(feature, plain, rtol=1e-4, atol=2e-5)
        assert feature.is_contiguous()


@every_attention
@pytest.mark.skipif(not HAS_CUSTOM_OP, reason='needs torch.library.custom_op')
def test_compiles_without_a_graph_break(attention):
    torch._dynamo.reset()
    model = mini(attention=attention).train()
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    x = torch.randn(1, 3, 40, 70)
    expected, found = model(x), compiled(x)
    for feature, plain in zip(found, expected):
        torch.testing.assert_close(feature, plain, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize('arch', sorted(LiSA.arch_zoo))
def test_arch_zoo(arch):
    torch.manual_seed(0)
    model = LiSA(arch, drop_path_rate=0.1).train()
    features = model(torch.randn(1, 3, 64, 96))
    assert [feature.shape[1] for feature in features] == list(LiSA.arch_zoo[arch]['embed_dims'])
    sum(feature.square().mean() for feature in features).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ('arch', 'parameters', 'multiply_adds'),
    [
        ('tiny', 14e6, 2.5e9),
        ('small', 28e6, 4.8e9),
        ('base', 51e6, 9.0e9),
        ('large', 90e6, 15.8e9),
    ],
)
def test_budget(arch, parameters, multiply_adds):
    model = LiSA(arch).eval()
    total = count_complexity(model, lambda: model(torch.zeros(1, 3, 224, 224)))[-1]
    assert 0.85 * parameters < total.parameters <= parameters
    assert 0.85 * multiply_adds < total.multiply_adds <= multiply_adds


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


def test_windows_are_shifted_in_every_other_block():
    model = LiSA(MINI, attention=dict(type='WindowAttention', window_size=5))
    assert [block.attention.shift for block in model.stages[2]] == [False, True]
    model = LiSA(MINI, attention=dict(type='WindowAttention', shift=False))
    assert not any(block.attention.shift for block in model.stages[2])


def test_an_attention_keeps_its_own_initialisation():
    model = LiSA(MINI, attention=dict(type='MeanMixer'))
    assert all((block.attention.proj.bias == 3).all() for block in model.stages[2])


@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 4])
def test_frozen_stages(frozen_stages):
    model = mini(
        frozen_stages=frozen_stages,
        drop_path_rate=0.5,
        norm_cfg=dict(type='BN'),
        out_indices=(0, 2, 3),
    ).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.1)
    features = model(torch.randn(4, 3, 64, 64))
    if frozen_stages < 4:
        sum(feature.square().mean() for feature in features).backward()
        optimizer.step()
    else:
        assert not any(feature.requires_grad for feature in features)
    frozen = {f'downsamples.{i}.' for i in range(max(1, frozen_stages)) if frozen_stages >= 0}
    frozen |= {f'stages.{i}.' for i in range(frozen_stages)}
    frozen |= {f'norm{i}.' for i in range(frozen_stages)}
    changed = {
        name for name, old in before.items() if not torch.equal(old, model.state_dict()[name])
    }
    # running statistics of norms included
    assert not [name for name in changed if name.startswith(tuple(frozen))]
    trained = {f'{part}.{i}.' for part in ('downsamples', 'stages') for i in range(4)} - frozen
    for part in trained:
        assert any(name.startswith(part) for name in changed), part
    for name, module in model.named_modules():
        assert module.training != f'{name}.'.startswith(tuple(frozen)), name


def test_a_frozen_stage_has_no_drop_path():
    model = mini(frozen_stages=2, drop_path_rate=0.9, out_indices=(0, 1)).train()
    x = torch.randn(2, 3, 64, 64)
    for feature, again in zip(model(x), model(x)):
        torch.testing.assert_close(feature, again, rtol=0, atol=0)


def test_norm_eval_keeps_running_statistics():
    model = mini(norm_cfg=dict(type='BN'), norm_eval=True).train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    sum(feature.sum() for feature in model(torch.randn(4, 3, 64, 64))).backward()
    assert before
    for name, value in model.named_buffers():
        torch.testing.assert_close(value, before[name], msg=name)
    assert model.stages[0][0].norm1.weight.grad is not None


@pytest.mark.parametrize(
    ('norm_cfg', 'kind'),
    [
        (dict(type='GN', num_groups=2), nn.GroupNorm),
        (dict(type='LN2d'), LayerNorm2d),
        (dict(type='BN'), nn.BatchNorm2d),
    ],
)
def test_norm_cfg(norm_cfg, kind):
    model = mini(norm_cfg=dict(norm_cfg, eps=1e-3))
    norms = [module for module in model.modules() if getattr(module, 'eps', None)]
    # two in the stem, one in each other downsample, two in each block, and four outputs
    assert [type(norm) for norm in norms] == [kind] * (2 + 3 + 2 * 5 + 4)
    assert all(norm.eps == 1e-3 for norm in norms)


def test_layer_scale():
    model = mini(layer_scale_init_value=1e-4).eval()
    plain = mini().eval()
    assert (model.stages[2][1].scale2.weight == 1e-4).all()
    x = torch.randn(1, 24, 5, 7)
    block = model.stages[2][0]
    torch.testing.assert_close(block(x), x + block.pos_conv(x), rtol=0, atol=1e-2)
    assert not set(plain.state_dict()) - set(model.state_dict())


@every_attention
def test_attention_and_mlp_start_small_unless_scaled(attention):
    def branches(**kwargs):
        torch.manual_seed(0)
        block = mini(attention=attention, **kwargs).eval().stages[2][1]
        x = torch.randn(2, 24, 9, 8)
        return block.attention(x), block.mlp(x)

    for small, full in zip(branches(), branches(layer_scale_init_value=0.5)):
        torch.testing.assert_close(small, full * 0.1)


def test_attention_per_stage():
    model = mini(attention=ATTENTIONS['mixed'])
    kinds = [type(stage[0].attention) for stage in model.stages]
    assert kinds == [StructureAwareAttention] * 2 + [SelfAttention] * 2


def test_layer_depth():
    model = mini()
    depths = {name: model.get_layer_depth(name) for name in model.state_dict()}
    assert {number for _, number in depths.values()} == {7}
    assert depths['downsamples.0.0.weight'][0] == 0
    assert depths['stages.0.0.mlp.0.weight'][0] == depths['stages.0.0.norm1.bias'][0] == 1
    assert depths['downsamples.2.0.weight'][0] == depths['stages.2.0.pos_conv.weight'][0] == 3
    assert depths['stages.2.1.attention.rpe_encoder'][0] == 4
    assert depths['stages.3.0.attention.rpe_encoder'][0] == 5
    assert depths['norm1.weight'][0] == 6
    assert model.get_layer_depth('backbone.stages.1.0.norm1.bias', 'backbone.') == (2, 7)
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (6, 7)


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


@pytest.mark.parametrize('kind', ['Pretrained', PretrainedInit])
@pytest.mark.parametrize('as_list', [False, True])
def test_init_cfg_loads_the_backbone_of_a_checkpoint(tmp_path, log, as_list, kind):
    model = mini()
    state = {f'backbone.{key}': value for key, value in model.state_dict().items()}
    path = tmp_path / 'classifier.pth'
    torch.save(dict(state_dict={**state, 'head.fc.weight': torch.zeros(2, 2)}), path)
    arch = {**MINI, 'rpe_radius': (7, 5, 3, (2, 1))}  # other tables in the first stage
    init_cfg = dict(type=kind, checkpoint=str(path), prefix='backbone.')
    if as_list:
        init_cfg = [dict(type='Constant', layer='GroupNorm', val=3), init_cfg]
    loaded = LiSA(arch, init_cfg=init_cfg)
    loaded.init_weights()
    for (key, value), (_, expected) in zip(loaded.state_dict().items(), model.state_dict().items()):
        if value.shape != expected.shape:
            value = value[:, :, 2:-2, 2:-2]
        torch.testing.assert_close(value, expected, msg=key)
    lines = [
        '2 tables of LiSA are carried over to another extent, the first: '
        'stages.0.0.attention.rpe_encoder, (1, 1, 11, 11) to (1, 1, 15, 15)',
        f'LiSA, {path}: {len(state)} tensors loaded (2 of them resized), 0 missing, 0 unexpected',
    ]
    assert [log.count(line) for line in lines] == [1, 1]


def test_init_cfg_of_another_arch(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(mini().state_dict(), path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    with pytest.raises(ValueError, match='weights.pth does not fit LiSA: was it made with another'):
        LiSA({**MINI, 'embed_dims': (16, 16, 24, 32)}, init_cfg=init_cfg).init_weights()
    with pytest.raises(ValueError, match='weights.pth holds nothing for LiSA'):
        LiSA(MINI, init_cfg=dict(init_cfg, prefix='backbone.')).init_weights()


def test_weights_of_a_later_version(log):
    state = mini().state_dict()
    state._metadata['']['version'] = 3
    mini().load_state_dict(state)
    assert any('of version 3, and this lisa_mm knows versions up to 2' in line for line in log)


def test_weights_of_version_1(log):
    """They are of attention that was not divided by how much of the tables is seen."""
    state = mini().state_dict()
    mini().load_state_dict(state)
    assert not any('lisa_mm 0.1' in line for line in log)
    state._metadata['']['version'] = 1
    mini().load_state_dict(state)
    message = 'are of lisa_mm 0.1, whose attention was not divided'
    assert sum(message in line for line in log) == 1
    for attention in (
        dict(type='SelfAttention'),
        dict(type='StructureAwareAttention', boundary='circular'),
    ):
        other = mini(attention=attention)
        state = other.state_dict()
        state._metadata['']['version'] = 1
        other.load_state_dict(state)
    assert sum(message in line for line in log) == 1


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
        (
            dict(arch={**MINI, 'mlp_ratios': (4, 4, 0.01, 4)}),
            ValueError,
            'mlp_ratio must give at least one hidden channel, got 0.01 of 24',
        ),
        (dict(in_channels=0), ValueError, 'in_channels must be an integer of at least 1, got 0'),
        (dict(pretrain_img_size='224'), ValueError, "pretrain_img_size must be .* got '224'"),
        (dict(out_indices=(0, 4)), ValueError, r'out_indices must .* got \(0, 4\)'),
        (dict(out_indices=()), ValueError, r'out_indices must name stages'),
        (dict(out_indices=3), ValueError, r'out_indices must name stages .* got 3'),
        (dict(frozen_stages=5), ValueError, 'frozen_stages must be an integer from -1 to 4, got 5'),
        (
            dict(norm_cfg=dict(type='IN')),
            ValueError,
            "norm_cfg must have a 'type' out of 'GN', .*IN",
        ),
        (
            dict(attention=[dict(type='SelfAttention')] * 3),
            ValueError,
            'or 4 of them, one per stage',
        ),
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
