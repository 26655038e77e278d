"""Checkpoints that survive being interrupted, and a training that goes on as it would have."""

from __future__ import annotations

import functools
import os
import os.path as osp
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import worker_init_fn
from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, FlexibleRunner, Runner
from torch.utils.data import Sampler

from lisa_mm.registry import HOOKS

PARTIAL = '.incomplete_checkpoint'
PREVIOUS = '.previous_checkpoint'


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's checkpoint hook, made safe against being killed at any moment.

    A checkpoint is written under another name, synchronised with the disk and
    renamed; then the file ``last_checkpoint`` is replaced; only then an older
    checkpoint is removed. So the one that ``resume`` finds is always whole.

    An epoch-based training that is resumed from the end of an epoch gives the
    losses that it would have given without a break, to the tolerance of the
    hardware: the states of the random number generators of every rank are
    saved, what validation draws is kept apart from what training draws, and the
    workers of the training loader are seeded by seed, rank, worker and epoch.
    For this they start afresh in every epoch, ``persistent_workers`` or not.

    What stays as it is in MMEngine: storage that is not local, or named by
    ``file_client_args``; a checkpoint that is a folder (of DeepSpeed, or FSDP's
    shards) and is saved a second time takes two renames, between which only
    the old one is there, under another name; MMEngine's DeepSpeed strategy
    does not show hooks what it resumes, and its FSDP strategy cannot resume.

    Args:
        **kwargs: Those of :class:`mmengine.hooks.CheckpointHook`.

    Raises:
        ValueError: At the start of a training, if ``save_best`` is used with
            MMEngine's ``FlexibleRunner``, which would store a wrong epoch.

    Example:
        In a config::

            default_hooks = dict(
                checkpoint=dict(type='lisa_mm.AtomicCheckpointHook', interval=1, max_keep_ckpts=3)
            )
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._random_state: dict | None = None
        self._sampler_seed: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Clear away what an earlier run did not finish writing."""
        if self.save_best and isinstance(runner, FlexibleRunner):
            raise ValueError(
                'save_best cannot be used with FlexibleRunner: after validation MMEngine would '
                'store the wrong epoch. Leave it out of default_hooks.checkpoint'
            )
        super().before_train(runner)
        if self._is_local and is_main_process():
            for path in Path(self.out_dir).glob(f'*{PARTIAL}'):
                _remove(path)
        if self._sampler_seed is not None:
            # the sampler was built before the checkpoint was read
            _sampler_of(runner).seed = self._sampler_seed

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the random state of this rank for the first epoch to come."""
        if not runner._resume:
            return
        meta = checkpoint.get('meta', {})
        self._sampler_seed = meta.get('sampler_seed')
        states = meta.get('random_states') or []
        if len(states) == get_world_size():
            self._random_state = states[get_rank()]
        else:
            runner.logger.warning(
                f'the checkpoint has the random states of {len(states)} processes, and there are '
                f'{get_world_size()}: the training goes on with other random numbers'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Go on with the random numbers where the last epoch ended."""
        by_epochs = isinstance(runner.train_loop, EpochBasedTrainLoop)
        if by_epochs:
            _seed_workers(runner)
        if self._random_state is not None:
            _set_random_state(self._random_state)
        if not by_epochs:
            self._random_state = None  # it is soon out of date

    def after_train_epoch(self, runner: Runner) -> None:
        """Keep the random state before validation draws from it; save the checkpoint."""
        self._random_state = _get_random_state()
        super().after_train_epoch(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # That of the end of the epoch: for `save_best` MMEngine comes here after validation, too.
        meta['random_states'] = all_gather_object(self._random_state or _get_random_state())
        meta['sampler_seed'] = getattr(_sampler_of(runner), 'seed', None)
        if not self._is_local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        outdated = None
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self.keep_ckpt_ids.popleft()
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = osp.join(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        saver = runner if isinstance(runner, _AtomicRunner) else _AtomicRunner(runner)
        saver.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        pointer = Path(runner.work_dir, 'last_checkpoint')
        partial = pointer.with_name(pointer.name + PARTIAL)
        partial.write_text(self.last_ckpt)
        _replace(partial, pointer)
        if outdated is not None:
            _remove(Path(self.out_dir, self.filename_tmpl.format(outdated)))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self._is_local:
            super()._save_best_checkpoint(runner, metrics)
            return
        backend, self.file_backend = self.file_backend, _PatientBackend()
        try:
            super()._save_best_checkpoint(_AtomicRunner(runner), metrics)
            for path in self.file_backend.outdated:
                # an equal name has been replaced already
                if path not in self._best_paths():
                    _remove(Path(path))
        finally:
            self.file_backend = backend

    def _best_paths(self) -> list[str]:
        if len(self.key_indicators) == 1:
            return [self.best_ckpt_path]
        return list(self.best_ckpt_path_dict.values())

    @property
    def _is_local(self) -> bool:
        return isinstance(self.file_backend, LocalBackend)


class _AtomicRunner:
    """A runner whose checkpoints appear as a whole."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        partial = Path(out_dir, filename + PARTIAL)
        self._runner.save_checkpoint(out_dir, partial.name, *args, **kwargs)
        barrier()  # some strategies write from every rank
        if is_main_process():
            _replace(partial, Path(out_dir, filename))


class _PatientBackend(LocalBackend):
    """Notes what is to be removed, for when its successor is whole."""

    def __init__(self) -> None:
        self.outdated: list[str] = []

    def remove(self, filepath: str) -> None:
        self.outdated.append(filepath)

    rmtree = remove


class _SeedWorker:
    """Seed a worker of a loader by seed, rank, worker and epoch."""

    def __init__(self, seed: int, epoch: int) -> None:
        self.entropy = seed, get_rank(), epoch

    def __call__(self, worker_id: int) -> None:
        seed = np.random.SeedSequence([*self.entropy, worker_id]).generate_state(1).item()
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


def _sampler_of(runner: Runner) -> Sampler:
    """Return the sampler that shuffles: MMDetection's stand in a sampler of batches."""
    loader = runner.train_dataloader
    return getattr(loader.batch_sampler, 'sampler', loader.sampler)


def _seed_workers(runner: Runner) -> None:
    """Let the workers of the training loader start anew, with seeds of this epoch."""
    loader = runner.train_dataloader
    own = isinstance(loader.worker_init_fn, functools.partial)
    if own and loader.worker_init_fn.func is not worker_init_fn:
        return  # somebody's own, which is left alone
    if loader.num_workers and (own or isinstance(loader.worker_init_fn, _SeedWorker)):
        loader.worker_init_fn = _SeedWorker(runner.seed, runner.epoch)
        # as MMDetection's YOLOXModeSwitchHook restarts persistent workers
        loader._iterator = None


def _get_random_state() -> dict[str, Any]:
    """Return the states of all generators, of types that are loaded as weights only."""
    name, keys, *rest = np.random.get_state()
    return dict(
        python=random.getstate(),
        numpy=(name, keys.tolist(), *rest),
        torch=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    )


def _set_random_state(state: dict[str, Any]) -> None:
    version, keys, gauss = state['python']
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(tuple(state['numpy']))
    # a resumed checkpoint is loaded to the device of the model
    torch.set_rng_state(state['torch'].cpu())
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def _replace(partial: Path, path: Path) -> None:
    """Put a finished file or folder in its place, for good."""
    files = [p for p in partial.rglob('*') if p.is_file()] if partial.is_dir() else [partial]
    for file in files:
        _sync(file, os.O_RDWR)  # Windows syncs only what may be written
    previous = path.with_name(path.name + PREVIOUS)
    if path.is_dir():  # a folder cannot replace another one
        _remove(previous)
        path.replace(previous)
    partial.replace(path)
    if os.name == 'posix':  # elsewhere folders cannot be opened
        _sync(path.parent, os.O_RDONLY)
    _remove(previous)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
