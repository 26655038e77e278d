"""Parts of the training engine: hooks, and learning rates by layer."""

from .hooks import AtomicCheckpointHook, CheckWeightsHook
from .optimizers import LayerDecayOptimWrapperConstructor

__all__ = ['AtomicCheckpointHook', 'CheckWeightsHook', 'LayerDecayOptimWrapperConstructor']
