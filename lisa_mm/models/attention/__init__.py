"""Attention modules with one interface, exchangeable in the backbones.

``__init__(embed_dims, num_heads, ..., init_cfg=None)`` and ``forward(x)``, from
(B, C, H, W) to (B, C, H, W) for any grid (H, W).
"""

from .self_attention import SelfAttention
from .structure_aware_attention import StructureAwareAttention

__all__ = ['SelfAttention', 'StructureAwareAttention']
