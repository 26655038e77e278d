"""Seeing to it that a checkpoint has to do with the model."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.distributed.fsdp import FullyShardedDataParallel

from lisa_mm.registry import HOOKS
from lisa_mm.utils.checkpoint import check_weights, unwrap


@HOOKS.register_module()
class CheckWeightsHook(Hook):
    """Log how a checkpoint goes together with the model, and refuse one that does not.

    MMEngine loads what fits and goes on. A model that is evaluated, or trained
    further, with nothing loaded is a mistake.
    """

    # before hooks that change the names in the checkpoint, or take weights out of it
    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare the names of the weights with the model's.

        Raises:
            CheckpointError: If nothing fits, or less than what does not.
        """
        model = runner.model
        if isinstance(model, FullyShardedDataParallel):
            return  # each process has a share of the weights, in another shape
        match = check_weights(model, checkpoint)
        level = logging.WARNING if match.missing or match.misfits else logging.INFO
        runner.logger.log(level, f'{type(unwrap(model)).__name__}: {match}')
