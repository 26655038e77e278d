"""What the attention modules share."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from lisa_mm.ops._checks import check_heads


class QKVAttention(BaseModule):
    """Attention with queries, keys and values of several heads: a base class.

    A subclass implements :meth:`attend` and ``_kernels``, and initialises its
    layers at the end of its constructor.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Heads G; each has c = C / G channels.
        qkv_bias: Whether queries, keys and values have a bias. Defaults to
            True.
        init_cfg: Initialisation config of MMEngine. Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_heads(embed_dims, num_heads)
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.qkv = nn.Conv2d(embed_dims, 3 * embed_dims, 1, bias=qkv_bias)
        self.proj = nn.Conv2d(embed_dims, embed_dims, 1)

    @property
    def output_weight(self) -> nn.Parameter:
        """The weights that the output ends with."""
        return self.proj.weight

    def forward(self, x: Tensor) -> Tensor:
        """Mix the positions of a map.

        Args:
            x: (B, C, H, W), any grid.

        Returns:
            Tensor: (B, C, H, W).
        """
        return self.proj(self.attend(*self.heads(x)).flatten(1, 2))

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries, keys and values of a map, (B, G, c, H, W) each."""
        return self.qkv(x).unflatten(1, (3, self.num_heads, -1)).unbind(1)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mix values, (B, G, c, H, W) like queries and keys."""
        raise NotImplementedError

    def kernels(self, x: Tensor, positions: Tensor) -> Tensor:
        """Compute the weights with which queries see the values of every position.

        Args:
            x: (B, C, H, W), any grid.
            positions: Rows and columns of the queries, (K, 2), integers.

        Returns:
            Tensor: (B, G, K, H, W), in at least float32.

        Raises:
            ValueError: If a position is not on the grid.
        """
        rows, columns = check_positions(positions, x)
        query, key, _ = map(at_least_float32, self.heads(x))
        with torch.autocast(x.device.type, enabled=False):
            return self._kernels(query[..., rows, columns], key, rows, columns)

    def _kernels(self, query: Tensor, key: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Compute the kernels (B, G, K, H, W) of queries (B, G, c, K), in at least float32."""
        raise NotImplementedError


def at_least_float32(x: Tensor) -> Tensor:
    """Return a tensor in single precision, or in double if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def l2_normalize(x: Tensor) -> Tensor:
    """Divide (B, G, c, ...) by its norm over the channels of a head, in at least float32.

    The square of a half-precision activation overflows, and what keeps a norm
    from zero is zero there. On a CPU PyTorch's ``normalize`` takes ten times as
    long: its norm does not vectorise over an axis in the middle.
    """
    x = at_least_float32(x)
    return x * x.square().sum(2, keepdim=True).clamp_min(1e-12).rsqrt()


def check_positions(positions: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows and the columns of positions (K, 2) on a map, on its device.

    Raises:
        ValueError: If they are not pairs of integers on the grid.
    """
    grid = x.shape[-2:]
    if positions.dim() != 2 or positions.shape[1] != 2 or positions.is_floating_point():
        raise ValueError(
            f'positions must be integers of shape (K, 2), rows and columns, got '
            f'{positions.dtype} of shape {tuple(positions.shape)}'
        )
    outside = (positions < 0) | (positions >= positions.new_tensor(grid))
    if outside.any():
        found = positions[outside.any(1)][0].tolist()
        raise ValueError(f'positions must be on the grid {tuple(grid)}, got {found}')
    return positions.to(x.device).unbind(1)


def similarities(query: Tensor, key: Tensor) -> Tensor:
    """Return the products of queries (B, G, c, K) with keys (B, G, c, H, W), (B, G, K, H, W)."""
    return torch.einsum('bgck,bgchw->bgkhw', query, key)


def softmax_2d(logits: Tensor) -> Tensor:
    """Return the softmax over the grid of (..., H, W)."""
    return logits.flatten(-2).softmax(-1).view_as(logits)


def offsets(start: Tensor, size: int) -> Tensor:
    """Return the offsets of all positions of an axis from those given, (K, size)."""
    return torch.arange(size, device=start.device) - start[:, None]
