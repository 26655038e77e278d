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


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['mmpretrain::no/such.py'], 'FileNotFoundError: mmpretrain has no config no/such.py'),
        (
            ['mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py'],
            'ValueError: VisionTransformer gives maps at strides',
        ),
    ],
)
def test_errors_in_one_line(run_tool, args, message):
    out = run_tool(SWAP, *args, fails=True)
    assert out.strip().splitlines()[-1].startswith(message)
    assert 'Traceback' not in out
