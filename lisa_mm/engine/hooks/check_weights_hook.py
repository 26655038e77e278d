"""Seeing to it that a checkpoint has to do with the model."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from lisa_mm.registry import HOOKS
from lisa_mm.utils.checkpoint import CheckpointError, match_weights, state_dict_of


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
        while hasattr(model, 'module'):  # distributed, or with test-time augmentation
            model = model.module
        # what MMEngine will load, not what it might have found
        weights = state_dict_of(dict(state_dict=checkpoint.get('state_dict', checkpoint)))
        match = match_weights(model, weights)
        # a few misfits are as they should be: the classes of another data set
        if match.loaded <= match.misfits:
            raise CheckpointError(
                f'the checkpoint is not for this {type(model).__name__}: {match}. Its first tensor '
                f'is {next(iter(weights), None)}. Is it for another config?'
            )
        level = logging.WARNING if match.missing or match.misfits else logging.INFO
        runner.logger.log(level, f'{type(model).__name__}: {match}')
