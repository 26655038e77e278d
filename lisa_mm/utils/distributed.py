"""Distributed runs without a GPU."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.logging import print_log

from .config import replace_values

# MMEngine's 'full' moves the gathered weights to the CPU. PyTorch 2.11 does not copy those that are
# there already, frees them and crashes.
FULL_STATE_DICT = dict(
    state_dict_type='FULL_STATE_DICT',
    state_dict_config=dict(type='FullStateDictConfig', offload_to_cpu=False),
    optim_state_dict_config=dict(type='FullOptimStateDictConfig', offload_to_cpu=False),
)


def prepare_for_cpu(cfg: Config) -> None:
    """Let a distributed run do without a GPU.

    MMEngine takes one for granted: it selects a device by the local rank, and
    so do its wrappers. So the processes are connected here, with gloo, before
    it comes to that, and the wrappers are told that there is no device.
    Synchronised batch normalisation, which needs a GPU, becomes the plain one.

    Args:
        cfg: The config, changed in place. Its ``launcher`` must be
            ``'pytorch'``: torchrun has set the environment variables.

    Raises:
        ValueError: If it is another launcher.
    """
    if cfg.launcher != 'pytorch':
        raise ValueError(
            'distributed runs without a GPU are for --launcher pytorch (tools/dist_train.sh), got '
            f'{cfg.launcher!r}'
        )
    if not dist.is_initialized():
        dist.init_process_group('gloo')
    for kind in ('SyncBN', 'MMSyncBN'):
        if replace_values(cfg.model, 'type', kind, 'BN'):
            print_log(f'without a GPU, {kind} becomes BN', logger='current')
    if cfg.get('runner_type') == 'FlexibleRunner':
        strategy = cfg.get('strategy') or {}
        if strategy.get('type') == 'FSDPStrategy':
            wrapper = dict(strategy.get('model_wrapper') or {}, device_id=torch.device('cpu'))
            wrapper.setdefault('type', 'MMFullyShardedDataParallel')
            strategy.model_wrapper = wrapper
            if strategy.get('state_dict_cfg') == 'full':
                strategy.state_dict_cfg = FULL_STATE_DICT
        return
    # what MMEngine does where no wrapper is named
    default = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = {**default, **cfg.get('model_wrapper_cfg', {}), 'device_ids': None}


def end_process() -> None:
    """End a process of a distributed run without a GPU, with success; others go on.

    To be called when all is done. Threads of gloo outlive the process group
    where a model was wrapped for it, and now and then abort the interpreter
    while it shuts down, so that a finished run looks like a failed one. So it
    is not shut down.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_backend() == 'gloo'):
        return
    for worker in multiprocessing.active_children():
        worker.terminate()  # of the data loaders
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
