"""Training and testing from the command line, on a few images."""

import pickle
from pathlib import Path

import mmdet
import mmpretrain
import mmseg
import pytest
import torch
from PIL import Image

from lisa_mm.models import LiSA
from lisa_mm.utils.checkpoint import HAS_SAFE_GLOBALS

CONFIGS = Path(__file__).parents[2] / 'configs'
DETECTOR = CONFIGS / 'mask_rcnn_lisa_s_coco.py'
SEGMENTER = CONFIGS / 'upernet_lisa_t_custom.py'
IN_PROCESS = [
    f'{split}_dataloader.{option}'
    for split in ('train', 'val', 'test')
    for option in ('num_workers=0', 'persistent_workers=False')
]
SHORT = [
    '--cfg-options',
    'train_cfg.max_iters=2',
    'train_cfg.val_interval=2',
    'train_dataloader.batch_size=2',
    *IN_PROCESS,
]
SMALLER = [
    '--cfg-options',
    'model.backbone.arch=tiny',
    'model.neck.in_channels=[64,128,256,512]',
    'model.train_cfg.rcnn.sampler.num=16',
    # a model that has learned nothing is sure of nothing: without this, there may be nothing found
    'model.test_cfg.rcnn.score_thr=0',
    'train_cfg.max_epochs=1',
    *IN_PROCESS,
    'train_dataloader.dataset.pipeline.2.scale=(64,64)',
    'val_dataloader.dataset.pipeline.1.scale=(64,64)',
    'test_dataloader.dataset.pipeline.1.scale=(64,64)',
]


def test_detector(run_tool, coco_folder, tmp_path):
    data = ['--data-root', coco_folder]
    out = run_tool('tools/train.py', DETECTOR, *data, *SMALLER)
    assert 'coco/segm_mAP' in out
    checkpoint = tmp_path / 'work_dirs' / 'mask_rcnn_lisa_s_coco' / 'epoch_1.pth'
    assert checkpoint.is_file()

    # goes on where it stopped: there is nothing left to train
    out = run_tool('tools/train.py', DETECTOR, *data, '--resume', *SMALLER)
    assert 'resumed epoch: 1' in out

    outputs = ['--out', 'found.pkl', '--show-dir', tmp_path / 'drawn']
    out = run_tool('tools/test.py', DETECTOR, checkpoint, *data, *outputs, *SMALLER)
    assert 'Average Precision' in out and 'coco/bbox_mAP' in out
    with open(tmp_path / 'found.pkl', 'rb') as file:
        predictions = pickle.load(file)
    assert len(predictions) == 4
    assert len(list((tmp_path / 'drawn').rglob('*.png'))) == 4

    out = run_tool(
        'tools/visualization/draw_predictions.py', DETECTOR, 'found.pkl', 'found.png', *data,
        '--score-thr', 0, '--num-images', 2,
    )  # fmt: skip
    assert 'The picture is in found.png' in out
    assert Image.open(tmp_path / 'found.png').width > 1000

    out = run_tool('tools/test.py', DETECTOR, checkpoint, *data, '--tta', fails=True)
    assert out.splitlines()[-1].startswith('ValueError: test-time augmentation cannot merge')


def test_detector_with_the_tools_of_mmdet(run_tool, coco_folder):
    script = f'{mmdet.__path__[0]}/.mim/tools/train.py'
    out = run_tool(script, DETECTOR, *SMALLER, COCO_ROOT=str(coco_folder))
    assert 'coco/segm_mAP' in out


def test_segmenter(run_tool, masks_folder, tmp_path):
    data = ['--data-root', masks_folder, '--work-dir', 'work']
    out = run_tool('tools/train.py', SEGMENTER, *data, *SHORT)
    assert 'mIoU' in out
    checkpoint = tmp_path / 'work' / 'iter_2.pth'
    out = run_tool('tools/test.py', SEGMENTER, checkpoint, '--out', 'maps', '--tta', *data, *SHORT)
    assert 'mIoU' in out
    assert len(list((tmp_path / 'maps').glob('*.png'))) == 4


def test_segmenter_finds_no_images(fails_with, masks_folder):
    option = 'val_dataloader.dataset.img_suffix=.tif'
    args = [SEGMENTER, '--data-root', masks_folder, '--cfg-options', option]
    assert f'{masks_folder / "val"} holds no .tif files' in fails_with('tools/train.py', *args)


def test_pretrained_weights_by_options(run_tool, coco_folder):
    options = [
        'model.backbone.init_cfg.type=Pretrained',
        'model.backbone.init_cfg.checkpoint=no_such.pth',
        'model.backbone.init_cfg.prefix=backbone.',
    ]
    out = run_tool('tools/train.py', DETECTOR, '--data-root', coco_folder, *SMALLER, *options,
                   fails=True)  # fmt: skip
    assert 'no_such.pth' in out.splitlines()[-1]


def test_segmenter_with_the_tools_of_mmseg(run_tool, masks_folder):
    script = f'{mmseg.__path__[0]}/.mim/tools/train.py'
    out = run_tool(script, SEGMENTER, *SHORT, CUSTOM_ROOT=str(masks_folder))
    assert 'mIoU' in out


@pytest.fixture
def classifier(class_folders, tmp_path):
    """A config of two classes, on a folder of images for each."""
    config = tmp_path / 'config.py'
    config.write_text(
        f"""
_base_ = {str(CONFIGS / 'lisa_s_imagenet.py')!r}
model = dict(
    backbone=dict(arch='tiny'), head=dict(num_classes=2, in_channels=512), train_cfg=None
)
data_preprocessor = dict(num_classes=2)
loader = dict(batch_size=4, num_workers=0, persistent_workers=False)
train_dataloader = dict(
    dataset=dict(_delete_=True, type='CustomDataset', data_root={str(class_folders)!r},
                 data_prefix='train', pipeline={{{{_base_.train_pipeline}}}}), **loader)
val_dataloader = dict(
    dataset=dict(_delete_=True, type='CustomDataset', data_root={str(class_folders)!r},
                 data_prefix='val', pipeline={{{{_base_.test_pipeline}}}}), **loader)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
param_scheduler = []
"""
    )
    return config


def test_classifier(run_tool, class_folders, tmp_path):
    args = ['--work-dir', 'work', '--image-folder', class_folders]
    options = [
        '--cfg-options',
        *IN_PROCESS,
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=4',
        # a schedule of 300 epochs does not fit into one
        'param_scheduler.0.end=1',
        'param_scheduler.1.begin=0',
    ]
    config = CONFIGS / 'lisa_t_imagenet.py'
    out = run_tool('tools/train.py', config, *args, *options)
    assert 'accuracy/top1' in out
    checkpoint = str(tmp_path / 'work' / 'epoch_1.pth')
    out = run_tool(
        'tools/test.py', config, checkpoint, '--tta', '--out', 'found.pkl', *args, *options
    )
    assert 'accuracy/top1' in out
    assert (tmp_path / 'found.pkl').is_file()
    # of the exponential moving average, which MMEngine puts into the place of the weights
    assert 'tensors loaded (0 of them resized), 0 missing, 0 unexpected' in out

    # published, its backbone starts another model; its whole is none of another arch
    trust = [] if HAS_SAFE_GLOBALS else ['--trust']
    run_tool('tools/model_converters/publish_model.py', checkpoint, 'lisa_t.pth', *trust)
    [published] = tmp_path.glob('lisa_t-*.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(published), prefix='backbone.')
    backbone = LiSA('tiny', init_cfg=init_cfg)
    backbone.init_weights()
    weights = torch.load(checkpoint, weights_only=False)['state_dict']
    for name in ('stages.3.0.attention.rpe_encoder', 'norm3.weight'):
        torch.testing.assert_close(backbone.state_dict()[name], weights[f'backbone.{name}'])
    config = CONFIGS / 'lisa_mini_custom.py'
    out = run_tool('tools/test.py', config, checkpoint, '--data-root', class_folders, fails=True)
    assert 'CheckpointError: the checkpoint is not for this ImageClassifier' in out
    assert 'Traceback' not in out


@pytest.mark.skipif(not HAS_SAFE_GLOBALS, reason='needs PyTorch 2.4')
def test_runs_no_code_of_a_checkpoint(run_tool, class_folders, tmp_path):
    torch.save(dict(state_dict={}, extra=Malicious()), tmp_path / 'found.pth')
    config = CONFIGS / 'lisa_mini_custom.py'
    out = run_tool(
        'tools/test.py', config, 'found.pth', '--data-root', class_folders, '--cfg-options',
        *IN_PROCESS, fails=True,
    )  # fmt: skip
    assert 'this code must not run' not in out
    assert out.splitlines()[-1].startswith('CheckpointError: found.pth holds ')


class Malicious:
    def __reduce__(self):
        return print, ('this code must not run',)


def test_classifier_on_folders_of_its_own(run_tool, class_folders):
    config = CONFIGS / 'lisa_mini_custom.py'
    out = run_tool(
        'tools/train.py', config, '--data-root', class_folders, '--cfg-options',
        'train_cfg.max_epochs=1', 'train_cfg.val_interval=1', *IN_PROCESS,
    )  # fmt: skip
    assert 'accuracy/top1' in out


def test_classifier_with_the_tools_of_mmpretrain(run_tool, classifier):
    script = f'{mmpretrain.__path__[0]}/.mim/tools/train.py'
    assert 'accuracy/top1' in run_tool(script, classifier)


@pytest.mark.parametrize(
    ('script', 'args', 'message'),
    [
        (
            'train',
            [DETECTOR, '--data-root', 'nowhere'],
            'FileNotFoundError: the train data are not there: nowhere does not exist',
        ),
        (
            'train',
            [CONFIGS / 'mask_rcnn_lisa_t_custom.py', '--data-root', 'nowhere'],
            'FileNotFoundError: there is no annotation file nowhere',
        ),
        ('train', ['no_config.py'], 'FileNotFoundError: there is no config file no_config.py'),
        ('visualization/draw_predictions', [SEGMENTER, __file__, 'found.png'], str(SEGMENTER)),
    ],
)
def test_errors_take_one_line(fails_with, script, args, message):
    assert fails_with(f'tools/{script}.py', *args).startswith(message)


def test_unknown_arch_takes_one_line(run_tool, coco_folder):
    args = [DETECTOR, '--data-root', coco_folder, '--cfg-options', 'model.backbone.arch=huge']
    out = run_tool('tools/train.py', *args, fails=True)
    assert "'base', 'large', or a dict, got 'huge'" in out.splitlines()[-1]
    assert 'Traceback' not in out
