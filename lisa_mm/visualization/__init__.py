"""Pictures, drawn with matplotlib."""

from .attention import (
    draw_features,
    draw_kernels,
    draw_patterns,
    draw_receptive_fields,
    draw_tables,
)
from .instances import draw_instances

__all__ = [
    'draw_features',
    'draw_instances',
    'draw_kernels',
    'draw_patterns',
    'draw_receptive_fields',
    'draw_tables',
]
