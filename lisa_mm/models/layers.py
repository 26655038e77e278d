"""Small layers that the attention modules and the backbones share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of a map (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W) over C."""
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class DropPath(nn.Module):
    """Stochastic depth: drop a residual branch, for each sample on its own.

    Args:
        drop_prob: Probability of being dropped, in [0, 1). Defaults to 0.

    Source: `Deep Networks with Stochastic Depth
    <https://arxiv.org/abs/1603.09382>`_.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        if not 0 <= drop_prob < 1:
            raise ValueError(f'drop_prob must be in [0, 1), got {drop_prob}')
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples of (B, ...), in training only."""
        if not self.training or self.drop_prob == 0:
            return x
        keep = 1 - self.drop_prob
        mask = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(keep)
        return x * (mask / keep)

    def extra_repr(self) -> str:
        """Show the probability."""
        return f'drop_prob={self.drop_prob:.3g}'


class MLP(nn.Sequential):
    """Two pointwise convolutions with a GELU between them.

    Args:
        embed_dims: Channels of the input and of the output.
        hidden_dims: Channels between the convolutions.
    """

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__(
            nn.Conv2d(embed_dims, hidden_dims, 1),
            nn.GELU(),
            nn.Conv2d(hidden_dims, embed_dims, 1),
        )


def init_layer(module: nn.Module) -> None:
    """Initialise one layer, as an argument for ``nn.Module.apply``.

    Pointwise convolutions take the 0.02 of vision transformers; those with an
    extent take the deviation that keeps the variance of a ReLU-like layer.
    """
    if isinstance(module, nn.Conv2d):
        if module.kernel_size == (1, 1):
            std = 0.02
        else:
            fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
            std = (2.0 / fan_out) ** 0.5
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
