"""Hooks of the runner."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .check_weights_hook import CheckWeightsHook

__all__ = ['AtomicCheckpointHook', 'CheckWeightsHook']
