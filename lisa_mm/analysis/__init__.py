"""Measurements of time and memory."""

from .measure import interleaved_times, peak_memory

__all__ = ['interleaved_times', 'peak_memory']
