"""Two processes connected with gloo, against one."""

import multiprocessing
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope

from lisa_mm.utils.distributed import prepare_for_cpu

CLASSIFIER = dict(
    type='ImageClassifier',
    backbone=dict(
        type='lisa_mm.LiSA',
        arch=dict(
            embed_dims=(8, 16, 16, 16),
            depths=(1, 1, 1, 1),
            num_heads=(2, 2, 2, 2),
            num_patterns=(2, 2, 2, 2),
            rpe_radius=(3, 3, 1, 1),
            mlp_ratios=(2, 2, 2, 2),
        ),
        out_indices=(3,),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=16),
)


def make_batch():
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 32, 40, generator=generator)
    return images, [DataSample().set_gt_label(i % 3) for i in range(4)]


def build():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(CLASSIFIER).train()
    model.init_weights()
    return model


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def work(rank, folder):
    """Train on half of the batch for two steps; leave gradients and weights in files."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    model = MMDistributedDataParallel(build(), device_ids=None)
    images, samples = make_batch()
    half = slice(2 * rank, 2 * rank + 2)
    loss = sum(model(images[half], samples[half], mode='loss').values())
    loss.backward()
    found = dict(gradients=gradients(model.module))
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.01))
    for _ in range(2):
        optimizer.update_params(sum(model(images[half], samples[half], mode='loss').values()))
    torch.save({**found, 'weights': model.module.state_dict()}, f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()


def test_gradients_are_those_of_the_whole_batch(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process cannot use the threads of its parent
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=work, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    model = build()
    images, samples = make_batch()
    sum(model(images, samples, mode='loss').values()).backward()
    expected = gradients(model)
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    torch.set_num_threads(threads)
    first, second = (torch.load(tmp_path / f'rank{rank}.pth') for rank in range(2))
    for name, gradient in expected.items():
        scale = gradient.abs().max().clamp_min(1e-3)
        assert (first['gradients'][name] - gradient).abs().max() < 1e-5 * scale, name
    for name, weight in first['weights'].items():
        assert torch.equal(weight, second['weights'][name]), name


@pytest.fixture
def connected(tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_wrappers_and_norms_do_without_a_gpu(connected):
    cfg = Config(
        dict(
            launcher='pytorch',
            model=dict(neck=dict(norm_cfg=dict(type='SyncBN')), heads=[dict(type='MMSyncBN')]),
            find_unused_parameters=True,
        )
    )
    prepare_for_cpu(cfg)
    assert cfg.model == dict(neck=dict(norm_cfg=dict(type='BN')), heads=[dict(type='BN')])
    assert cfg.model_wrapper_cfg == dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=True,
        device_ids=None,
    )


def test_shared_out_weights_do_without_a_gpu(connected):
    cfg = Config(
        dict(
            launcher='pytorch',
            model=dict(),
            runner_type='FlexibleRunner',
            strategy=dict(type='FSDPStrategy', state_dict_cfg='full'),
        )
    )
    prepare_for_cpu(cfg)
    assert cfg.strategy.model_wrapper.device_id == torch.device('cpu')
    assert cfg.strategy.state_dict_cfg.state_dict_type == 'FULL_STATE_DICT'
    assert 'model_wrapper_cfg' not in cfg
    cfg.pop('strategy')  # MMEngine chooses one
    prepare_for_cpu(cfg)
    assert 'strategy' not in cfg


def test_other_launchers_are_refused():
    with pytest.raises(ValueError, match="for --launcher pytorch .* got 'slurm'"):
        prepare_for_cpu(Config(dict(launcher='slurm', model=dict())))


def test_a_process_of_a_distributed_run_ends_without_shutting_down(tmp_path):
    script = """
import atexit, sys
import torch.distributed as dist
from lisa_mm.utils.distributed import end_process

atexit.register(print, 'shut down')
end_process()
print('goes on alone', end=' ')
dist.init_process_group('gloo', init_method=f'file://{sys.argv[1]}', rank=0, world_size=1)
end_process()
"""
    command = [sys.executable, '-c', script, str(tmp_path / 'store')]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stdout) == (0, 'goes on alone ')
