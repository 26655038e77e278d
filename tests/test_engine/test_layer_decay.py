import pytest
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch import nn

from lisa_mm.engine import LayerDecayOptimWrapperConstructor
from lisa_mm.models import LiSA
from lisa_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

MINI = dict(
    embed_dims=(8, 16, 24, 32),
    depths=(1, 1, 2, 1),
    num_heads=(1, 2, 3, 4),
    num_patterns=(1, 1, 1, 1),
    rpe_radius=(5, 5, 3, 1),
    mlp_ratios=(2, 2, 2, 2),
)


@pytest.fixture(autouse=True)
def quiet():
    MMLogger.get_instance('test_layer_decay', log_level='ERROR')


def groups_of(model, rate=0.5, **paramwise_cfg):
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type='lisa_mm.LayerDecayOptimWrapperConstructor',
            optim_wrapper_cfg=dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1)),
            paramwise_cfg=dict(layer_decay_rate=rate, **paramwise_cfg),
        )
    )
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = constructor(model).optimizer.param_groups
    return {names[group['params'][0]]: group for group in groups}


class Model(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(4, 2)


def test_rates_fall_from_the_head_to_the_stem():
    model = Model(LiSA(MINI))
    groups = groups_of(model)
    assert set(groups) == {name for name, _ in model.named_parameters()}
    rates = {name: group['lr'] for name, group in groups.items()}
    # the stem, 5 blocks, and what comes after: 7 layers
    assert rates['backbone.downsamples.0.0.weight'] == 0.5**6
    assert rates['backbone.stages.0.0.attention.qkv.weight'] == 0.5**5
    assert rates['backbone.downsamples.2.0.weight'] == 0.5**3
    assert rates['backbone.stages.2.0.mlp.0.weight'] == 0.5**3
    assert rates['backbone.stages.2.1.mlp.0.weight'] == 0.5**2
    assert rates['backbone.stages.3.0.norm1.weight'] == 0.5
    assert rates['backbone.norm0.weight'] == 1
    assert rates['head.weight'] == rates['head.bias'] == 1


def test_tables_norms_and_biases_are_not_decayed():
    groups = groups_of(Model(LiSA(MINI, layer_scale_init_value=1e-2)))
    decayed = {name for name, group in groups.items() if group['weight_decay'] > 0}
    assert decayed == {
        name
        for name in groups
        if name.endswith('.weight')
        and 'norm' not in name
        # the norms of stem and downsamples, and the factors of the branches
        and name not in {f'backbone.downsamples.{i}.1.weight' for i in range(4)}
        and name != 'backbone.downsamples.0.4.weight'
        and '.scale' not in name
    }
    assert all(groups[name]['weight_decay'] == 0.1 for name in decayed)
    groups = groups_of(Model(LiSA(MINI)), custom_keys=dict(rpe_=dict(lr_mult=0.5, decay_mult=1)))
    tables = groups['backbone.stages.3.0.attention.rpe_encoder']
    assert (tables['lr'], tables['weight_decay']) == (0.25, 0.1)
    # a learning rate says nothing of decay
    groups = groups_of(Model(LiSA(MINI)), custom_keys=dict(backbone=dict(lr_mult=0.5)))
    norm, tables = (
        groups[f'backbone.stages.3.0.{name}'] for name in ('norm1.weight', 'attention.rpe_encoder')
    )
    assert (norm['lr'], norm['weight_decay']) == (0.25, 0)
    assert (tables['lr'], tables['weight_decay']) == (0.25, 0)


def test_an_optimiser_without_decay():
    constructor = LayerDecayOptimWrapperConstructor(
        dict(optimizer=dict(type='SGD', lr=1.0)), dict(layer_decay_rate=0.5)
    )
    groups = constructor(Model(LiSA(MINI))).optimizer.param_groups
    assert groups[0]['lr'] == 0.5**6 and groups[0]['weight_decay'] == 0


def test_frozen_parameters_are_left_out():
    groups = groups_of(Model(LiSA(MINI, frozen_stages=1)))
    assert not any('stages.0' in name or 'downsamples.0' in name for name in groups)


@pytest.mark.parametrize('wrapper', ['classifier', 'other'])
def test_with_a_backbone_of_mmpretrain(wrapper):
    pytest.importorskip('mmpretrain.models')
    from mmpretrain.models import ImageClassifier, SwinTransformer

    init_default_scope('mmpretrain')
    arch = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 1, 2, 2])
    if wrapper == 'classifier':  # which has a get_layer_depth of its own
        model = ImageClassifier(
            backbone=dict(type='SwinTransformer', arch=arch, img_size=64),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=64),
        )
    else:
        model = Model(SwinTransformer(arch=arch, img_size=64))
    groups = groups_of(model)
    assert groups['backbone.patch_embed.projection.weight']['lr'] == 0.5**6
    table = 'backbone.stages.2.blocks.1.attn.w_msa.relative_position_bias_table'
    assert (groups[table]['lr'], groups[table]['weight_decay']) == (0.5**2, 0)
    heads = [group for name, group in groups.items() if name.startswith('head')]
    assert heads and all(group['lr'] == 1 for group in heads)


@pytest.mark.parametrize('rate', [None, 0, 1.5, 'much'])
def test_bad_rate(rate):
    with pytest.raises(ValueError, match=r'layer_decay_rate in \(0, 1\], .* got'):
        LayerDecayOptimWrapperConstructor(
            dict(optimizer=dict(type='SGD', lr=1)), dict(layer_decay_rate=rate)
        )


def test_a_backbone_that_does_not_know_its_layers():
    with pytest.raises(ValueError, match='get_layer_depth.*, and Linear has none'):
        groups_of(Model(nn.Linear(2, 2)))


def test_a_classifier_of_mmpretrain_on_such_a_backbone():
    pytest.importorskip('mmpretrain.models')
    from mmpretrain.models import ImageClassifier

    init_default_scope('mmpretrain')
    model = ImageClassifier(backbone=dict(type='MobileNetV2'))
    with pytest.raises(ValueError, match='get_layer_depth.*, and MobileNetV2 has none'):
        groups_of(model)
