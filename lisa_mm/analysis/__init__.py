"""Measurements of operators and backbones."""

from .measure import interleaved_times, peak_memory

__all__ = ['interleaved_times', 'peak_memory']
