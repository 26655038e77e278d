"""Small layers that the attention modules and the backbones share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels, at each position on its own.

    Args:
        channels: Channels of the map.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        x = F.layer_norm(
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return x.permute(0, 3, 1, 2)


def group_norm(channels: int, num_groups: int, **kwargs: Any) -> nn.GroupNorm:
    """Build group normalisation, with the channels first as the others have them."""
    return nn.GroupNorm(num_groups, channels, **kwargs)


NORMS = {
    'GN': group_norm,
    'LN2d': LayerNorm2d,
    'BN': nn.BatchNorm2d,
    'SyncBN': nn.SyncBatchNorm,
}


def build_norm(cfg: dict, channels: int) -> nn.Module:
    """Build the normalisation of a map.

    Args:
        cfg: ``type``, one of ``NORMS``, whether it ``requires_grad``, True by
            default, and further arguments of that class.
        channels: Channels of the map.

    Raises:
        ValueError: If the type is not among them, or takes other arguments.

    Example:
        >>> from lisa_mm.models.layers import build_norm
        >>> build_norm(dict(type='BN', momentum=0.01), 8).momentum
        0.01
    """
    kwargs = dict(cfg)
    kind, requires_grad = kwargs.pop('type', None), kwargs.pop('requires_grad', True)
    if kind not in NORMS:
        raise ValueError(
            f"norm_cfg must have a 'type' out of {', '.join(map(repr, NORMS))}, got {dict(cfg)!r}"
        )
    try:
        norm = NORMS[kind](channels, **kwargs)
    except TypeError as error:
        raise ValueError(f'norm_cfg has not the arguments that {kind} takes: {error}') from error
    return norm.requires_grad_(requires_grad)


class LayerScale(nn.Module):
    """A learned factor per channel, for the output of a residual branch.

    Args:
        channels: Channels of the map.
        init_value: What the factors start with.

    Source: `Going deeper with Image Transformers
    <https://arxiv.org/abs/2103.17239>`_.
    """

    def __init__(self, channels: int, init_value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), float(init_value)))

    def forward(self, x: Tensor) -> Tensor:
        """Scale (B, C, H, W)."""
        return x * self.weight[:, None, None]


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

    Convolutions start with normal weights of variance 1 / fan-in and without
    bias. Narrow networks learn faster from it than from the deviation of 0.02
    that is usual in wide vision transformers.
    """
    if isinstance(module, nn.Conv2d):
        fan_in = module.weight[0].numel()
        nn.init.normal_(module.weight, std=fan_in**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
