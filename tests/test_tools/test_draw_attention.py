from pathlib import Path

import pytest
from PIL import Image

DETECTOR = Path(__file__).parents[2] / 'configs' / 'mask_rcnn_lisa_shapes.py'
SCRIPT = 'tools/visualization/draw_attention.py'


@pytest.fixture
def image(tmp_path):
    Image.linear_gradient('L').convert('RGB').resize((70, 50)).save(tmp_path / 'image.jpg')
    return 'image.jpg'


def test_draws_all_of_a_detector(run_tool, image, tmp_path):
    run_tool(SCRIPT, DETECTOR, image, '--pixel', 60, 3)
    names = {path.name for path in (tmp_path / 'pictures').iterdir()}
    pictures = ('tables', 'patterns', 'kernels', 'features', 'receptive_field')
    assert names == {f'{name}.png' for name in pictures}
    assert all(Image.open(tmp_path / 'pictures' / name).width > 300 for name in names)


def test_draws_what_another_attention_has(run_tool, image, tmp_path):
    option = 'model.backbone.attention.type=ExternalAttention'
    out = run_tool(SCRIPT, DETECTOR, image, '--cfg-options', option)
    assert 'left out kernels.png: ExternalAttention has none' in out
    names = {path.name for path in (tmp_path / 'pictures').iterdir()}
    assert names == {'features.png', 'receptive_field.png'}


def test_bad_input(fails_with, image, tmp_path):
    out = fails_with(SCRIPT, DETECTOR, image, '--pixel', 999, 3)
    assert out == '--pixel must be on the image of 64 x 64 pixels, got (999, 3)'
    (tmp_path / 'broken.png').write_text('no image')
    out = fails_with(SCRIPT, DETECTOR, 'broken.png')
    assert out.startswith('ValueError: broken.png cannot be read as an image')
    swin = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
    assert fails_with(SCRIPT, DETECTOR, 'no.jpg') == 'there is no image no.jpg'
    out = fails_with(SCRIPT, swin, image)
    assert out == 'ValueError: MaskRCNN has no backbone of type lisa_mm.LiSA'
    assert fails_with(SCRIPT, DETECTOR, image, '--size', 0) == '--size must be at least 1, got 0'
    assert fails_with(SCRIPT, DETECTOR, image, '--heads', 0) == '--heads must be at least 1, got 0'
    out = fails_with(SCRIPT, DETECTOR, image, '--checkpoint', 'no.pth')
    assert out.startswith('FileNotFoundError: there is no checkpoint file no.pth')
    out = fails_with(
        SCRIPT, DETECTOR, image, '--only', 'tables',
        '--cfg-options', 'model.backbone.attention.type=SelfAttention',
    )  # fmt: skip
    assert 'no stage of the backbone has structure-aware attention' in out
    assert not (tmp_path / 'pictures').exists()
