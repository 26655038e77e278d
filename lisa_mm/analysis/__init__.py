"""Measurements of time, memory and complexity."""

from .complexity import Complexity, count_complexity, matched_mlp_ratios, operator_multiply_adds
from .measure import interleaved_times, peak_memory

__all__ = [
    'Complexity',
    'count_complexity',
    'interleaved_times',
    'matched_mlp_ratios',
    'operator_multiply_adds',
    'peak_memory',
]
