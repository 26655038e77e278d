"""Training that is killed and resumed, against training that is not."""

import multiprocessing
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import BatchSampler

from lisa_mm.engine import AtomicCheckpointHook
from lisa_mm.engine.hooks.atomic_checkpoint_hook import _replace

EPOCHS = 4
ITERS = 3


class Numbers(BaseDataset):
    """Vectors with noise from all three generators."""

    def load_data_list(self):
        return [dict(index=i) for i in range(4 * ITERS)]

    def prepare_data(self, idx):
        noise = random.random() + np.random.rand() + torch.rand(4)
        return dict(x=noise + idx, y=torch.tensor([float(idx)]))


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, x, y, mode):
        x, y = torch.stack(list(x)), torch.stack(list(y))
        loss = (self.net(x) - y).square().mean()
        if mode == 'loss':
            return dict(loss=loss)
        torch.rand(3)  # validation may draw numbers, too
        return [loss.item()]


class Metric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        score = float(np.mean(results))
        return dict(score=score, other=2 * score)


class NoteLosses(Hook):
    """Write every loss to a file; die at a moment."""

    def __init__(self, path, die_at):
        self.path, self.die_at = path, die_at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with open(self.path, 'a') as file:
            file.write(f'{runner.iter} {outputs["loss"].item():.8f}\n')
        if self.die_at == ('iteration', runner.iter):
            die()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def train(work_dir, die_at=None, resume=False, workers=0, seed=1, batches=False, rank=None, **hook):
    """Train; with a rank, as one of two processes, each with random numbers of its own."""
    torch.set_num_threads(1)
    distributed, name = {}, 'losses.txt'
    if rank is not None:
        os.environ['LOCAL_RANK'] = str(rank)
        store = Path(work_dir, f'store_{resume}')
        dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
        wrapper = dict(type='MMDistributedDataParallel', device_ids=None)
        distributed = dict(launcher='pytorch', cfg=dict(model_wrapper_cfg=wrapper))
        name = f'losses_{rank}.txt'
    kind, when = die_at or (None, None)
    if kind == 'write':
        put = LocalBackend.put

        def write_half(self, obj, filepath):
            if f'epoch_{when}.pth' in str(filepath):
                put(self, obj[: len(obj) // 2], filepath)
                die()
            put(self, obj, filepath)

        LocalBackend.put = write_half
    elif kind == 'rename':
        replace = Path.replace

        def replace_not(self, target):
            if Path(target).name == when:
                die()
            return replace(self, target)

        Path.replace = replace_not
    loader = dict(
        batch_size=4,
        num_workers=workers,
        persistent_workers=workers > 0,
        dataset=Numbers(),
        sampler=dict(type='DefaultSampler', shuffle=True),
    )
    train_loader = dict(loader)
    if batches:  # as the detectors of MMDetection
        train_loader['batch_sampler'] = dict(type=BatchSampler, drop_last=False)
    runner = Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=train_loader,
        train_cfg=dict(by_epoch=True, max_epochs=EPOCHS),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.01)),
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_cfg=dict(),
        val_evaluator=dict(type=Metric),
        default_hooks=dict(
            checkpoint=dict(
                type='lisa_mm.AtomicCheckpointHook', interval=1, max_keep_ckpts=1, **hook
            )
        ),
        custom_hooks=[NoteLosses(Path(work_dir, name), die_at)],
        resume=resume,
        randomness=dict(seed=seed, diff_rank_seed=rank is not None),
        log_level='ERROR',
        experiment_name=f'{Path(work_dir).name}_{resume}_{os.getpid()}',
        **distributed,
    )
    runner.train()


def run(work_dir, *args, dies=False, **kwargs):
    """Train in a process of its own."""
    process = multiprocessing.get_context('fork').Process(
        target=train, args=(work_dir, *args), kwargs=kwargs
    )
    process.start()
    process.join(120)
    assert process.exitcode == (-signal.SIGKILL if dies else 0)
    return read_losses(work_dir)


def read_losses(work_dir, name='losses.txt'):
    """Return the last loss of each iteration."""
    lines = Path(work_dir, name).read_text().splitlines()
    return {int(line.split()[0]): float(line.split()[1]) for line in lines}


def run_two(work_dir, *args, dies=False, **kwargs):
    """Train in two processes; the losses of each."""
    processes = [
        multiprocessing.get_context('fork').Process(
            target=train, args=(work_dir, *args), kwargs=dict(kwargs, rank=rank)
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == (-signal.SIGKILL if dies else 0)
    return [read_losses(work_dir, f'losses_{rank}.txt') for rank in range(2)]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process cannot use the threads of its parent
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ('die_at', 'left'),
    [
        (('iteration', 2 * ITERS + 1), 'epoch_2.pth'),
        (('write', 3), 'epoch_2.pth'),
        (('rename', 'epoch_3.pth'), 'epoch_2.pth'),
        (('rename', 'last_checkpoint'), None),  # nothing points to the first one yet
    ],
)
def test_goes_on_as_if_it_had_not_been_killed(tmp_path, die_at, left):
    (tmp_path / 'whole').mkdir()
    (tmp_path / 'killed').mkdir()
    expected = run(tmp_path / 'whole')
    run(tmp_path / 'killed', die_at, dies=True)
    pointer = tmp_path / 'killed' / 'last_checkpoint'
    assert pointer.exists() == (left is not None)
    if left:
        assert Path(pointer.read_text()).name == left
        torch.load(pointer.read_text(), weights_only=False)  # is whole
    losses = run(tmp_path / 'killed', resume=True)
    assert losses.keys() == expected.keys() == set(range(ITERS * EPOCHS))
    assert losses == pytest.approx(expected, rel=1e-6)
    # and leaves what it should: one checkpoint, and nothing half done
    names = sorted(path.name for path in (tmp_path / 'killed').glob('*epoch*'))
    assert names == ['epoch_4.pth']


def test_workers_are_seeded_by_epoch(tmp_path):
    """Persistent workers, too, give after a break what they would have given."""
    (tmp_path / 'whole').mkdir()
    (tmp_path / 'killed').mkdir()
    expected = run(tmp_path / 'whole', workers=2)
    run(tmp_path / 'killed', ('iteration', 2 * ITERS), workers=2, dies=True)
    assert run(tmp_path / 'killed', resume=True, workers=2) == pytest.approx(expected, rel=1e-6)


def test_every_process_goes_on_with_its_own_random_numbers(tmp_path):
    (tmp_path / 'whole').mkdir()
    (tmp_path / 'killed').mkdir()
    expected = run_two(tmp_path / 'whole')
    assert expected[0] != pytest.approx(expected[1])  # other samples, dropped otherwise
    run_two(tmp_path / 'killed', ('iteration', ITERS + 1), dies=True)
    found = run_two(tmp_path / 'killed', resume=True)
    assert len(found[0]) == len(expected[0]) == EPOCHS * -(-ITERS // 2)
    for rank in range(2):
        assert found[rank] == pytest.approx(expected[rank], rel=1e-6)


@pytest.mark.parametrize('batches', [False, True])
def test_seed_of_the_checkpoint_is_the_samplers(tmp_path, batches):
    """A run that was given no seed is resumed with the one that it drew."""
    (tmp_path / 'run').mkdir()
    run(tmp_path / 'run', ('iteration', ITERS), dies=True, seed=7, batches=batches)
    second = run(tmp_path / 'run', resume=True, seed=None, batches=batches)
    (tmp_path / 'whole').mkdir()
    assert second == pytest.approx(run(tmp_path / 'whole', seed=7, batches=batches), rel=1e-6)


BEST = dict(save_best='score', rule='greater')


def test_goes_on_after_a_better_checkpoint(tmp_path):
    """MMEngine saves the epoch again after validation, which has drawn random numbers."""
    (tmp_path / 'whole').mkdir()
    (tmp_path / 'killed').mkdir()
    expected = run(tmp_path / 'whole', **BEST)
    run(tmp_path / 'killed', ('iteration', 2 * ITERS), dies=True, **BEST)
    assert run(tmp_path / 'killed', resume=True, **BEST) == pytest.approx(expected, rel=1e-6)


def test_best_checkpoint_is_removed_after_its_successor_is_whole(tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    # the score is the loss, and "less" of it is better: that of the second epoch is
    run(folder, ('rename', 'best_score_epoch_2.pth'), dies=True, save_best='score', rule='less')
    assert (folder / 'best_score_epoch_1.pth').exists()
    run(folder, resume=True, save_best='score', rule='less')
    [best] = folder.glob('best_score_*')
    torch.load(best, weights_only=False)


def test_several_best_checkpoints(tmp_path):
    (tmp_path / 'run').mkdir()
    run(tmp_path / 'run', save_best=['score', 'other'], rule='less')
    names = sorted(path.name.split('_epoch')[0] for path in (tmp_path / 'run').glob('best_*'))
    assert names == ['best_other', 'best_score']


def test_folders_are_exchanged(tmp_path):
    """Checkpoints of DeepSpeed are folders, and are saved twice where they are better."""
    for name, text in (('epoch_1.pth', 'old'), ('partial', 'new')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'weights').write_text(text)
    _replace(tmp_path / 'partial', tmp_path / 'epoch_1.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['epoch_1.pth']
    assert (tmp_path / 'epoch_1.pth' / 'weights').read_text() == 'new'


def test_checkpoint_of_other_processes_is_said(tmp_path, log):
    hook = AtomicCheckpointHook()

    class FakeRunner:
        _resume = True

        class logger:
            warning = staticmethod(log.append)

    hook.after_load_checkpoint(FakeRunner, dict(meta=dict()))
    assert 'the random states of 0 processes, and there are 1' in log[-1]
