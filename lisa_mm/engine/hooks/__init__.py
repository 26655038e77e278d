"""Hooks of the runner."""

from .check_weights_hook import CheckWeightsHook

__all__ = ['CheckWeightsHook']
