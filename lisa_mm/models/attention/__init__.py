"""Attention modules with one interface, exchangeable in the backbones.

``__init__(embed_dims, num_heads, ..., init_cfg=None)`` and ``forward(x)``, from
(B, C, H, W) to (B, C, H, W) for any grid (H, W). Those that have kernels also
``kernels(x, positions)``: the weights with which the given queries see the
values of every position, (B, G, K, H, W). ``output_weight`` are the weights that
the output ends with; a block makes them start small where there are any.
"""

from .depthwise_conv import DepthwiseConv
from .efficient_attention import EfficientAttention
from .external_attention import ExternalAttention
from .focused_linear_attention import FocusedLinearAttention
from .gaussian_attention import GaussianAttention
from .global_filter import GlobalFilter
from .halo_attention import HaloAttention
from .linear_attention import LinearAttention
from .self_attention import SelfAttention
from .structure_aware_attention import StructureAwareAttention
from .window_attention import WindowAttention

__all__ = [
    'DepthwiseConv',
    'EfficientAttention',
    'ExternalAttention',
    'FocusedLinearAttention',
    'GaussianAttention',
    'GlobalFilter',
    'HaloAttention',
    'LinearAttention',
    'SelfAttention',
    'StructureAwareAttention',
    'WindowAttention',
]
