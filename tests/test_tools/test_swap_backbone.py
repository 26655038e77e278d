import pytest
from mmengine.config import Config

SWAP = 'tools/swap_backbone.py'


def test_writes_a_config_that_stands_alone(run_tool, tmp_path):
    out = run_tool(SWAP, 'mmpretrain::resnet/resnet18_8xb32_in1k.py', '--arch', 'tiny')
    assert 'model.head.in_channels: 512' not in out  # as it is
    assert 'model.backbone: ResNet -> LiSA, tiny, from scratch' in out
    assert 'written to resnet18_8xb32_in1k_lisa_tiny.py' in out
    cfg = Config.fromfile(tmp_path / 'resnet18_8xb32_in1k_lisa_tiny.py')
    assert cfg.model.backbone.type == 'lisa_mm.LiSA'


def test_replaces_no_file_unasked(run_tool, fails_with, tmp_path):
    config = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
    out = tmp_path / 'mine.py'
    out.write_text('a = 1')
    assert fails_with(SWAP, config, '--out', 'mine.py') == (
        'mine.py is there already: choose another --out, or replace it with --force'
    )
    assert out.read_text() == 'a = 1'
    run_tool(SWAP, config, '--out', 'mine.py', '--force')
    assert 'lisa_mm.LiSA' in out.read_text()


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['mmpretrain::no/such.py'], 'FileNotFoundError: mmpretrain has no config no/such.py'),
        (
            ['mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py'],
            'ValueError: VisionTransformer gives maps at strides',
        ),
        (
            ['mmpretrain::resnet/resnet18_8xb32_in1k.py', '--arch', 'smal'],
            'ValueError: lisa_mm.LiSA could not be built and run on 320 x 320 pixels: ValueError',
        ),
        (
            ['mmpretrain::resnet/resnet18_8xb32_in1k.py', '--checkpoint', 'no.pth'],
            'FileNotFoundError: there is no checkpoint file no.pth',
        ),
        (
            ['mmpretrain::resnet/resnet18_8xb32_in1k.py', '--out', 'a.txt'],
            '--out must be a .py file, got a.txt',
        ),
    ],
)
def test_errors_in_one_line(fails_with, args, message):
    assert fails_with(SWAP, *args).startswith(message)
