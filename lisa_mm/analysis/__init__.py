"""Measurements of time, memory and complexity."""

from .complexity import Complexity, count_complexity, operator_multiply_adds
from .measure import interleaved_times, peak_memory

__all__ = [
    'Complexity',
    'count_complexity',
    'interleaved_times',
    'operator_multiply_adds',
    'peak_memory',
]
