import json

import pytest

SCRIPT = 'tools/analysis_tools/get_flops.py'


def total_of(path):
    whole = json.loads(path.read_text())['parts'][-1]
    assert whole['name'] == 'total'
    return whole['multiply_adds'] / 1e9


@pytest.mark.parametrize(
    ('config', 'shape', 'published'),
    [
        # https://arxiv.org/abs/2103.14030, tables 1, 2 and 3; UperNet's, 945, is for 512 x 2048
        ('mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py', (), 4.5),
        ('mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', (), 267),
        (
            'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py',
            (512, 512),
            945 / 4,
        ),
    ],
)
def test_published_figures(run_tool, tmp_path, config, shape, published):
    options = ['--shape', *shape] if shape else []
    out = run_tool(SCRIPT, config, *options, '--out', 'flops.json')
    assert total_of(tmp_path / 'flops.json') == pytest.approx(published, rel=0.02)
    assert '| backbone.stages.2 |' in out and '| total |' in out


def test_own_config_at_one_number(run_tool, fails_with, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text("""
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='lisa_mm.LiSA', arch='tiny', out_indices=(3,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
)
""")
    run_tool(SCRIPT, config, '--shape', 224, '--out', 'flops.json')
    assert 0.85 * 2.5 < total_of(tmp_path / 'flops.json') < 2.5
    assert 'mmdet has no config lisa.py' in fails_with(SCRIPT, 'mmdet::lisa.py')
    out = fails_with(SCRIPT, config, '--shape', 1, 2, 3)
    assert out == '--shape takes one or two positive numbers, got [1, 2, 3]'
    out = fails_with(SCRIPT, config, '--cfg-options', 'model.backbone.arch=huge')
    assert out.endswith("or a dict, got 'huge'")
