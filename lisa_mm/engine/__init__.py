"""Parts of the training engine: hooks, and learning rates by layer."""

from .hooks import CheckWeightsHook
from .optimizers import LayerDecayOptimWrapperConstructor

__all__ = ['CheckWeightsHook', 'LayerDecayOptimWrapperConstructor']
