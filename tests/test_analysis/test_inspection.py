import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from lisa_mm.analysis.inspection import (
    attentions_of,
    find_backbone,
    find_images,
    kernels_of,
    load_model,
    preprocess,
    read_image,
    record,
    spread_positions,
)
from lisa_mm.models import LiSA

ARCH = dict(
    embed_dims=(8, 8, 16, 16),
    depths=(1, 1, 2, 1),
    num_heads=(2, 2, 2, 2),
    num_patterns=(1, 1, 1, 1),
    rpe_radius=(3, 3, 2, 1),
    mlp_ratios=(2, 2, 2, 2),
)


def config(codebase):
    backbone = dict(type='lisa_mm.LiSA', arch=ARCH)
    if codebase == 'mmpretrain':
        head = dict(type='LinearClsHead', num_classes=2, in_channels=16)
        neck = dict(type='GlobalAveragePooling')
        model = dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head)
    elif codebase == 'mmseg':
        head = dict(
            type='FCNHead', in_channels=16, in_index=3, channels=8, num_convs=1, num_classes=2
        )
        model = dict(type='EncoderDecoder', backbone=backbone, decode_head=head)
        model['data_preprocessor'] = dict(type='SegDataPreProcessor', mean=[1, 2, 3], std=[4] * 3)
    else:
        model = dict(
            type='FasterRCNN',
            backbone=backbone,
            neck=dict(type='FPN', in_channels=ARCH['embed_dims'], out_channels=8, num_outs=5),
        )
        model['data_preprocessor'] = dict(
            type='DetDataPreprocessor', mean=[1, 2, 3], std=[4] * 3, pad_size_divisor=32
        )
    if codebase == 'mmpretrain':
        model['data_preprocessor'] = dict(type='ClsDataPreprocessor', mean=[1, 2, 3], std=[4] * 3)
    model['data_preprocessor'].update(
        {'to_rgb' if codebase == 'mmpretrain' else 'bgr_to_rgb': True}
    )
    return Config(dict(default_scope=codebase, model=model))


@pytest.fixture
def picture(tmp_path):
    """An RGB image of 50 x 70 pixels, red in its upper half."""
    image = np.zeros((50, 70, 3), np.uint8)
    image[:25] = 200, 10, 20
    Image.fromarray(image).save(tmp_path / 'picture.png')
    return tmp_path / 'picture.png'


@pytest.mark.parametrize('codebase', ['mmpretrain', 'mmseg'])
def test_model_image_and_weights(codebase, picture, tmp_path):
    pytest.importorskip(codebase)
    cfg = config(codebase)
    torch.manual_seed(0)
    trained = load_model(cfg)
    assert not trained.training
    torch.save(dict(state_dict=trained.state_dict(), meta={}), tmp_path / 'weights.pth')
    model = load_model(cfg, tmp_path / 'weights.pth')
    for own, other in zip(model.parameters(), trained.parameters()):
        assert torch.equal(own, other)
    inputs = preprocess(model, read_image(picture))
    assert inputs.shape == (1, 3, 64, 64)
    red = (torch.tensor([200.0, 10, 20]) - torch.tensor([1.0, 2, 3])) / 4
    torch.testing.assert_close(inputs[0, :, 0, 0], red)
    assert isinstance(find_backbone(model), LiSA)


def test_weights_of_another_model(tmp_path):
    torch.save(dict(state_dict=dict(a=torch.ones(1)), meta={}), tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match='the checkpoint is not for this ImageClassifier'):
        load_model(config('mmpretrain'), tmp_path / 'weights.pth')


def test_weights_of_another_attention(tmp_path, log):
    """What is not in the checkpoint would stay random, and be taken for trained."""
    cfg = config('mmpretrain')
    torch.save(dict(state_dict=load_model(cfg).state_dict(), meta={}), tmp_path / 'weights.pth')
    load_model(cfg, tmp_path / 'weights.pth')
    cfg.model.backbone.attention = dict(type='EfficientAttention')
    assert not any('another attention' in line for line in log)
    load_model(cfg, tmp_path / 'weights.pth')  # has no tensors of its own
    message = r'holds 10 tensors that the backbone has not, .*rpe_encoder. Was it trained with'
    assert sum(bool(re.search(message, line)) for line in log) == 1
    cfg.model.backbone.attention = dict(type='WindowAttention')
    with pytest.raises(ValueError, match=r'lacks \d+ tensors of the backbone, .*rpe_bias'):
        load_model(cfg, tmp_path / 'weights.pth')


def test_weights_for_other_classes(tmp_path, log):
    cfg = config('mmpretrain')
    trained = load_model(cfg)
    torch.save(dict(state_dict=trained.state_dict(), meta={}), tmp_path / 'weights.pth')
    cfg.model.head.num_classes = 5
    model = load_model(cfg, tmp_path / 'weights.pth')
    assert any('2 tensors of another shape' in line and 'head.fc.weight' in line for line in log)
    for own, other in zip(model.backbone.parameters(), trained.backbone.parameters()):
        assert torch.equal(own, other)


def test_weights_for_another_arch(tmp_path):
    cfg = config('mmpretrain')
    torch.save(dict(state_dict=load_model(cfg).state_dict(), meta={}), tmp_path / 'weights.pth')
    cfg.model.backbone.arch = dict(ARCH, mlp_ratios=(2, 2, 3, 2))
    message = r'lacks 6 tensors of the backbone, or has them in another shape, .*stages.2.0.mlp'
    with pytest.raises(ValueError, match=message):
        load_model(cfg, tmp_path / 'weights.pth')


def test_kernels_of_a_shape_of_their_own():
    class Flat(torch.nn.Module):
        def kernels(self, x, positions):
            return torch.zeros(1, 2, 3, 20)

    message = r'Flat.kernels must give .*\(1, heads, 3, 4, 5\), got \(1, 2, 3, 20\)'
    with pytest.raises(ValueError, match=message):
        kernels_of(Flat(), torch.zeros(1, 8, 4, 5), torch.zeros(3, 2, dtype=torch.long))


def test_no_backbone():
    with pytest.raises(ValueError, match='Linear has no backbone of type lisa_mm.LiSA'):
        find_backbone(torch.nn.Linear(1, 1))


def test_sizes_are_multiples_of_32(picture):
    assert read_image(picture).shape == (64, 64, 3)
    assert read_image(picture, 100).shape == (96, 128, 3)
    assert read_image(picture, (10, 130)).shape == (32, 128, 3)


def test_images_of_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no folder nowhere'):
        find_images('nowhere')
    with pytest.raises(ValueError, match=r'holds no images \(.bmp, '):
        find_images(tmp_path)
    (tmp_path / 'b').mkdir()
    for name in ('b/1.PNG', 'a.jpg', 'note.txt'):
        (tmp_path / name).touch()
    assert find_images(tmp_path) == [tmp_path / 'a.jpg', tmp_path / 'b' / '1.PNG']


def test_no_image(tmp_path):
    (tmp_path / 'broken.png').write_text('no image')
    with pytest.raises(ValueError, match='broken.png cannot be read as an image: '):
        read_image(tmp_path / 'broken.png')
    with pytest.raises(ValueError, match='missing.png cannot be read as an image: '):
        read_image(tmp_path / 'missing.png')


def test_records_what_goes_in_and_out():
    torch.manual_seed(0)
    backbone = LiSA(ARCH).eval()
    modules = attentions_of(backbone)
    assert list(modules) == ['stages.0.0', 'stages.1.0', 'stages.2.0', 'stages.2.1', 'stages.3.0']
    found = record(backbone, torch.randn(1, 3, 64, 96), modules)
    x, out = found['stages.2.1']
    assert x.shape == (1, 16, 4, 6)
    torch.testing.assert_close(modules['stages.2.1'](x), out)
    assert not any(module._forward_hooks for module in backbone.modules())


@pytest.mark.parametrize('grid', [(1, 1), (1, 9), (7, 7), (5, 40)])
@pytest.mark.parametrize('number', [1, 4, 16])
def test_positions_are_spread(grid, number):
    positions = spread_positions(grid, number)
    assert 1 <= len(positions) <= number
    assert len(set(map(tuple, positions.tolist()))) == len(positions)
    assert (positions >= 0).all() and (positions < torch.tensor(grid)).all()
    # no position is far from all of those
    every = torch.cartesian_prod(*(torch.arange(size) for size in grid)).float()
    farthest = torch.cdist(every, positions.float()).min(1).values.max()
    assert farthest <= 1.6 * (grid[0] * grid[1] / len(positions)) ** 0.5
