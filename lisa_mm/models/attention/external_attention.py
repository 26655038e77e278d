"""Attention to a learned memory instead of to other positions."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from lisa_mm.models.layers import init_layer
from lisa_mm.ops._checks import check_count, check_heads
from lisa_mm.registry import MODELS


@MODELS.register_module()
class ExternalAttention(BaseModule):
    """Attention of queries to the slots of two small memories that all samples share.

    With keys and values from the memories, the weights are normalised twice: by
    a softmax over the positions, then to a sum of one over the slots. Linear in
    the positions, which know of each other by the softmax alone: there are no
    kernels over positions.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Heads G; each has c = C / G channels, and all of them share
            the memories.
        memory_size: Slots S of the memories. Defaults to 64.
        multi_head: Whether there are several heads; otherwise it is one of C
            channels. Defaults to True.
        init_cfg: Initialisation config of MMEngine. Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lisa_mm.models import ExternalAttention
        >>> attention = ExternalAttention(embed_dims=32, num_heads=4)
        >>> attention(torch.randn(2, 32, 7, 10)).shape
        torch.Size([2, 32, 7, 10])

    Source: `Beyond Self-attention: External Attention using Two Linear Layers
    for Visual Tasks <https://arxiv.org/abs/2105.02358>`_; with as many channels
    in the attention as outside of it.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        memory_size: int = 64,
        multi_head: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_heads(embed_dims, num_heads)
        check_count('memory_size', memory_size)
        self.num_heads = num_heads if multi_head else 1
        channels = embed_dims // self.num_heads
        self.query = nn.Conv2d(embed_dims, embed_dims, 1)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)
        self.memory_key = nn.Parameter(torch.randn(memory_size, channels) * channels**-0.5)
        self.memory_value = nn.Parameter(torch.randn(memory_size, channels))
        self.apply(init_layer)

    @property
    def output_weight(self) -> nn.Parameter:
        """The weights that the output ends with."""
        return self.proj.weight

    def forward(self, x: Tensor) -> Tensor:
        """Look up the positions of a map in the memories.

        Args:
            x: (B, C, H, W), any grid.

        Returns:
            Tensor: (B, C, H, W).
        """
        query = self.query(x).unflatten(1, (self.num_heads, -1)).flatten(3)
        out = torch.einsum('sc,bgsn->bgcn', self.memory_value, self.weights(query))
        return self.proj(out.flatten(1, 2).unflatten(2, x.shape[-2:]))

    def weights(self, query: Tensor) -> Tensor:
        """Compute the weights of the slots (B, G, S, N), normalised twice, for (B, G, c, N)."""
        logits = torch.einsum('sc,bgcn->bgsn', self.memory_key, query)
        # by logarithms: of all slots of a position the softmax over positions may underflow
        return logits.log_softmax(-1).softmax(2)

    def extra_repr(self) -> str:
        """Name what the submodules do not show."""
        return f'num_heads={self.num_heads}, memory_size={self.memory_key.shape[0]}'
