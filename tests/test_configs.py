"""Every recipe: what it inherits, what follows from it, and that its model computes a loss."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from lisa_mm.analysis.compatibility import SHAPES, train_and_predict
from lisa_mm.datasets import generate_shapes
from lisa_mm.models import LiSA
from lisa_mm.utils.config import DATA_ROOT_VARIABLES, iter_datasets, load_config

CONFIGS = Path(__file__).parents[1] / 'configs'
LEAVES = sorted(path.stem for path in CONFIGS.glob('*.py'))


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = generate_shapes(tmp_path_factory.mktemp('data') / 'shapes', num_train=4, num_val=4)
    for name in ('one', 'two'):  # for the configs that read class names from folders
        (root / 'train' / name).mkdir()
    return str(root)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in DATA_ROOT_VARIABLES:
        monkeypatch.setenv(name, '')  # restored afterwards, whatever a test sets
        monkeypatch.delenv(name)


@pytest.mark.parametrize('name', LEAVES)
def test_data_root_is_set_once(name, shapes):
    cfg = load_config(str(CONFIGS / f'{name}.py'), data_root=shapes)
    for split in ('train', 'val', 'test'):
        for dataset in iter_datasets(cfg[f'{split}_dataloader']):
            assert dataset.data_root == shapes
        evaluator = cfg.get(f'{split}_evaluator') or {}
        if 'ann_file' in evaluator:
            assert os.path.dirname(os.path.dirname(evaluator.ann_file)) == shapes


@pytest.mark.parametrize(
    ('name', 'variable', 'default'),
    [
        ('mask_rcnn_lisa_s_coco', 'COCO_ROOT', 'data/coco/'),
        ('upernet_lisa_s_ade20k', 'ADE20K_ROOT', 'data/ade/ADEChallengeData2016'),
        ('lisa_s_imagenet', 'IMAGENET_ROOT', 'data/imagenet/'),
        ('mask_rcnn_lisa_shapes', 'SHAPES_ROOT', 'data/shapes/'),
        ('upernet_lisa_t_custom', 'CUSTOM_ROOT', 'data/custom/'),
    ],
)
@pytest.mark.parametrize('value', [None, '/mnt/no slash', 'D:/with/slash/'])
def test_data_root_by_environment_variable(monkeypatch, name, variable, default, value):
    if value is not None:
        monkeypatch.setenv(variable, value)
    cfg = load_config(str(CONFIGS / f'{name}.py'))
    root = default if value is None else value
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.data_root == root
        evaluator = cfg.get(f'{split}_evaluator') or {}
        if 'ann_file' in evaluator:
            folder = os.path.join(root, 'annotations')
            assert os.path.dirname(evaluator.ann_file) == folder


@pytest.mark.parametrize('name', LEAVES)
def test_no_decay_for_norms_biases_and_tables(name, shapes):
    cfg = load_config(str(CONFIGS / f'{name}.py'), data_root=shapes)
    init_default_scope(cfg.default_scope)
    model = torch.nn.Module()
    model.backbone = LiSA('tiny')
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decays = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    for key, parameter in model.named_parameters():
        decayed = parameter.dim() > 1 and 'rpe_' not in key
        assert (decays[id(parameter)] > 0) == decayed, key


@pytest.mark.parametrize('name', LEAVES)
def test_batch_size_and_checkpoints(name, shapes):
    cfg = load_config(str(CONFIGS / f'{name}.py'), data_root=shapes)
    assert cfg.auto_scale_lr.base_batch_size > 0
    assert cfg.default_hooks.checkpoint.type == 'lisa_mm.AtomicCheckpointHook'
    assert cfg.default_hooks.checkpoint.max_keep_ckpts == 3


# the others have the model of one of these
@pytest.mark.parametrize(
    'name',
    [
        name
        for name in LEAVES
        if name.startswith('cascade') or not name.endswith(('_ms_3x_coco', '_fsdp', '_deepspeed'))
    ],
)
def test_computes_a_loss_and_predicts(name, shapes):
    cfg = load_config(str(CONFIGS / f'{name}.py'), data_root=shapes)
    shapes = SHAPES
    if name != 'dino_lisa_s_coco':  # which has more queries than small images have positions
        shapes = (96, 128), (64, 96)
    if name.startswith('upernet'):  # the width of its heads is what takes most of the time
        cfg.model.decode_head.channels = cfg.model.auxiliary_head.channels = 32
    cfg.model.get('data_preprocessor', {}).pop('batch_augments', None)  # pads to 1024 x 1024
    model = train_and_predict(cfg, shapes)
    assert isinstance(model.backbone, LiSA)
    for key, parameter in model.backbone.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
