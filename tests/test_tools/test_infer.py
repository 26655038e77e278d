import json
from pathlib import Path

import pytest
import torch
from awkward_images import IMAGES, write_images
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from lisa_mm.datasets import SHAPE_CLASSES
from lisa_mm.utils.config import load_config

ROOT = Path(__file__).parents[2]
INFER = 'tools/infer.py'


def write_checkpoint(path, config, classes, data_root):
    """Save an untrained model as a training would."""
    cfg = load_config(str(config), data_root=str(data_root))
    init_default_scope(cfg.default_scope)
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    meta = dict(dataset_meta=dict(classes=classes, palette=[(200, 30, 30)] * len(classes)))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)


@pytest.mark.parametrize(
    ('name', 'classes', 'key'),
    [
        ('mask_rcnn_lisa_shapes', SHAPE_CLASSES, 'label_names'),
        ('upernet_lisa_t_custom', ('ground', 'object'), 'share_of_pixels'),
        ('lisa_mini_custom', ('class_0', 'class_1'), 'label_name'),
    ],
)
def test_folder_with_awkward_and_broken_images(
    run_tool, class_folders, tmp_path, name, classes, key
):
    config = ROOT / 'configs' / f'{name}.py'
    write_checkpoint(tmp_path / 'model.pth', config, classes, class_folders)
    write_images(tmp_path / 'images' / 'sub')
    (tmp_path / 'images' / 'broken.jpg').write_bytes(b'no image')
    whole = (tmp_path / 'images' / 'sub' / 'plain.jpg').read_bytes()
    (tmp_path / 'images' / 'cut.jpg').write_bytes(whole[: len(whole) // 2])
    out = run_tool(
        INFER, 'images', '--config', config, '--checkpoint', 'model.pth', '--out', 'out',
        '--data-root', class_folders,
    )  # fmt: skip
    assert f'{len(IMAGES)} of {len(IMAGES) + 2} images are in out' in out
    assert 'left out broken.jpg: UnidentifiedImageError' in out
    assert 'left out cut.jpg: OSError' in out
    for image in IMAGES:
        found = json.loads((tmp_path / 'out' / 'sub' / f'{image}.json').read_text())
        assert key in found
    with Image.open(tmp_path / 'out' / 'sub' / 'plain.jpg.png') as picture:
        assert picture.width / picture.height == pytest.approx(96 / 64, rel=0.05)


def test_checkpoint_of_another_model(run_tool, class_folders, tmp_path):
    config = ROOT / 'configs/lisa_mini_custom.py'
    write_checkpoint(tmp_path / 'model.pth', config, ('class_0', 'class_1'), class_folders)
    write_images(tmp_path / 'images')
    other = ROOT / 'configs/mask_rcnn_lisa_shapes.py'
    args = '--config', other, '--checkpoint', 'model.pth'
    out = run_tool(INFER, 'images', *args, fails=True)
    assert 'CheckpointError: the checkpoint is not for this MaskRCNN' in out


def test_errors_in_one_line(fails_with, tmp_path):
    args = '--config', ROOT / 'configs/mask_rcnn_lisa_shapes.py', '--checkpoint', 'no.pth'
    assert 'there is no image or folder nothing' in fails_with(INFER, 'nothing', *args)
    (tmp_path / 'empty').mkdir()
    assert 'empty holds no images' in fails_with(INFER, 'empty', *args)
    write_images(tmp_path / 'images')
    out = fails_with(INFER, 'images', *args)
    assert out == 'FileNotFoundError: there is no checkpoint file no.pth'
