"""The operator: functions on tensors that depend on torch alone."""

from .correlation import correlate
from .structure_aware_attention import (
    apply_patterns,
    structural_patterns,
    structure_aware_attention,
)
from .tables import extend_table, interpolate_table, seen_energy

__all__ = [
    'apply_patterns',
    'correlate',
    'extend_table',
    'interpolate_table',
    'seen_energy',
    'structural_patterns',
    'structure_aware_attention',
]
