"""Measurements: time, memory and complexity; what an attention has learned."""

from .complexity import Complexity, count_complexity, matched_mlp_ratios, operator_multiply_adds
from .measure import interleaved_times, peak_memory
from .receptive_field import effective_receptive_field
from .redundancy import Redundancy, kernel_redundancy

__all__ = [
    'Complexity',
    'Redundancy',
    'count_complexity',
    'effective_receptive_field',
    'interleaved_times',
    'kernel_redundancy',
    'matched_mlp_ratios',
    'operator_multiply_adds',
    'peak_memory',
]
