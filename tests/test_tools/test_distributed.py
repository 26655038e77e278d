"""The launch scripts with two processes on a CPU."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
LOADERS = [
    f'{split}_dataloader.{key}'
    for split in ('train', 'val', 'test')
    for key in ('num_workers=0', 'persistent_workers=False')
]
ONE_EPOCH = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'train_dataloader.batch_size=2']


@pytest.fixture
def launch(tmp_path):
    """Run a launch script in an empty working directory; returns what it printed."""

    def run(script, *args, fails=False):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
        result = subprocess.run(
            ['bash', str(ROOT / 'tools' / script), *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, 'PORT': str(port), 'PATH': path, 'OMP_NUM_THREADS': '1'},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (result.returncode != 0) == fails, result.stdout[-15000:]
        return result.stdout

    return run


def accuracy(out):
    return float(re.findall(r'accuracy/top1: ([\d.]+)', out)[-1])


def test_classifier(launch, run_tool, class_folders, tmp_path):
    """Trained by two processes; tested by two, which see every image once, and by one."""
    config = ROOT / 'configs/lisa_mini_custom.py'
    options = '--data-root', class_folders, '--work-dir', 'work', '--cfg-options', *LOADERS
    # an odd number of images, so that one process gets one of them a second time
    [left_out] = list((class_folders / 'val').glob('*/*.png'))[-1:]
    few = tmp_path / 'few'
    for path in class_folders.glob('*/*/*.png'):
        if path != left_out:
            link = few / path.relative_to(class_folders)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    options = '--data-root', few, '--work-dir', 'work', '--cfg-options', *LOADERS
    launch('dist_train.sh', config, 2, *options, *ONE_EPOCH)
    checkpoint = tmp_path / 'work' / 'epoch_1.pth'
    assert len(torch.load(checkpoint, weights_only=False)['meta']['random_states']) == 2
    by_two = launch('dist_test.sh', config, checkpoint, 2, *options)
    by_one = run_tool('tools/test.py', config, checkpoint, *options)
    assert accuracy(by_two) == accuracy(by_one)


@pytest.mark.slow
def test_detector(launch, shapes):
    out = launch(
        'dist_train.sh', ROOT / 'configs/mask_rcnn_lisa_shapes.py', 2, '--data-root', shapes,
        '--work-dir', 'work', '--cfg-options', *LOADERS, *ONE_EPOCH,
    )  # fmt: skip
    assert 'coco/segm_mAP' in out


@pytest.mark.slow
def test_segmenter(launch, masks_folder):
    out = launch(
        'dist_train.sh', ROOT / 'configs/upernet_lisa_t_custom.py', 2, '--data-root', masks_folder,
        '--work-dir', 'work', '--cfg-options', *LOADERS, 'train_cfg.max_iters=2',
        'train_cfg.val_interval=2', 'train_dataloader.batch_size=2',
    )  # fmt: skip
    assert 'mIoU' in out


@pytest.mark.slow
def test_shared_out_weights(launch, class_folders, tmp_path):
    launch(
        'dist_train.sh', ROOT / 'configs/lisa_l_imagenet_fsdp.py', 2,
        '--image-folder', class_folders, '--work-dir', 'work', '--cfg-options', *LOADERS,
        *ONE_EPOCH, 'model.backbone.arch=tiny', 'model.head.in_channels=512',
        'param_scheduler.1.begin=0',
    )  # fmt: skip
    weights = torch.load(tmp_path / 'work' / 'epoch_1.pth', weights_only=False)['state_dict']
    assert weights['head.fc.weight'].shape == (2, 512)  # whole, for any model to load


@pytest.mark.parametrize(
    'script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh']
)
def test_usage(launch, script):
    assert f'usage: bash tools/{script}' in launch(script, fails=True)


@pytest.mark.parametrize(
    ('script', 'passed'),
    [
        ('slurm_train.sh', 'train.py CONFIG --work-dir FILE'),
        ('slurm_test.sh', 'test.py CONFIG FILE'),
    ],
)
def test_slurm(launch, tmp_path, monkeypatch, script, passed):
    """What srun is asked for, by a stand-in that prints it."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}{os.pathsep}{os.environ["PATH"]}')
    monkeypatch.setenv('GPUS', '16')
    out = launch(script, 'part', 'job', 'CONFIG', 'FILE', '--amp')
    assert '--partition=part --job-name=job --gres=gpu:8 --ntasks=16 --ntasks-per-node=8' in out
    assert out.strip().endswith(f'{passed} --launcher slurm --amp')
