"""Softmax self-attention within windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lisa_mm.models.layers import init_layer
from lisa_mm.ops._checks import check_count
from lisa_mm.registry import MODELS

from ._base import QKVAttention, offsets, similarities, softmax_2d
from ._blocks import count_blocks, from_blocks, to_blocks


@MODELS.register_module()
class WindowAttention(QKVAttention):
    """Self-attention within square windows, with a relative position bias.

    Linear in the positions. A grid that is no multiple of the window is
    padded; the padding is not attended to. On a grid no larger than the window
    there is one window, and no shift.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Heads G; each has c = C / G channels.
        window_size: Side of a window, in positions. Defaults to 7.
        shift: Whether the windows are shifted by half of their side. The
            backbone shifts those of every other block. Defaults to False.
        qkv_bias: Whether queries, keys and values have a bias. Defaults to
            True.
        init_cfg: Initialisation config of MMEngine. Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lisa_mm.models import WindowAttention
        >>> attention = WindowAttention(embed_dims=32, num_heads=4, shift=True)
        >>> attention(torch.randn(2, 32, 17, 30)).shape
        torch.Size([2, 32, 17, 30])

    Source: `Swin Transformer <https://arxiv.org/abs/2103.14030>`_.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: int = 7,
        shift: bool = False,
        qkv_bias: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(embed_dims, num_heads, qkv_bias, init_cfg)
        check_count('window_size', window_size)
        self.window_size = window_size
        self.shift = shift
        self.apply(init_layer)
        extent = 2 * window_size - 1
        self.rpe_bias = nn.Parameter(torch.zeros(num_heads, extent, extent))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mix values, (B, G, c, H, W) like queries and keys."""
        grid = query.shape[-2:]
        shifts = self._shifts(grid)
        # what leaves the grid by the shift comes in again at the other end, where `_may_attend`
        # keeps it apart
        padding = [-size % self.window_size for size in grid]
        tokens = (
            to_blocks(
                F.pad(maps, (0, padding[1], 0, padding[0])).roll([-s for s in shifts], (3, 4)),
                self.window_size,
            )
            for maps in (query, key, value)
        )
        bias = self._bias(query.device)  # (G, 1, T, T)
        windows = count_blocks(grid, self.window_size)
        axes = 1, 2  # the bias serves all windows of all samples,
        if any(shifts) or any(padding):
            together = _may_attend(grid, windows, self.window_size, shifts, query.device)
            bias = bias.masked_fill(~together, float('-inf')).flatten(0, 1)[:, None]
            axes = 0, 1  # or, with what a window must not see, all samples
        query, key, value = (blocks.flatten(*axes) for blocks in tokens)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        number = windows[0] * windows[1]
        out = out.unflatten(axes[0], (self.num_heads, number) if axes[0] == 0 else (number, -1))
        padded = [size + margin for size, margin in zip(grid, padding)]
        out = from_blocks(out, self.window_size, padded)
        return out.roll(shifts, (3, 4))[..., : grid[0], : grid[1]]

    def extra_repr(self) -> str:
        """Name what the submodules do not show."""
        return f'num_heads={self.num_heads}, window_size={self.window_size}, shift={self.shift}'

    def _kernels(self, query: Tensor, key: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        grid = key.shape[-2:]
        logits = similarities(query, key) / query.shape[2] ** 0.5
        last = self.window_size - 1
        near, index = [], []
        for start, size, shift in zip((rows, columns), grid, self._shifts(grid)):
            window = (torch.arange(size, device=key.device) - shift) // self.window_size
            near.append(window[start][:, None] == window)
            index.append(offsets(start, size).clamp(-last, last) + last)
        bias = self.rpe_bias[:, index[0][:, :, None], index[1][:, None, :]]
        apart = ~(near[0][:, :, None] & near[1][:, None, :])
        return softmax_2d((logits + bias).masked_fill(apart, float('-inf')))

    def _shifts(self, grid: tuple[int, int]) -> tuple[int, int]:
        step = self.window_size // 2 if self.shift else 0
        return tuple(step if size > self.window_size else 0 for size in grid)

    def _bias(self, device: torch.device) -> Tensor:
        """Return the biases (G, 1, T, T) of the T tokens of a window."""
        side = self.window_size
        place = torch.arange(side * side, device=device)
        dy, dx = (at - at[:, None] + side - 1 for at in (place // side, place % side))
        return self.rpe_bias[:, dy, dx][:, None]


def _may_attend(
    grid: tuple[int, int],
    windows: tuple[int, int],
    side: int,
    shifts: tuple[int, int],
    device: torch.device,
) -> Tensor:
    """Say which tokens of a window belong together, (windows, T, T)."""
    parts = []
    for size, number, shift in zip(grid, windows, shifts):
        source = torch.arange(number * side, device=device) + shift
        part = (source >= number * side).long()  # came in at the other end
        source = source % (number * side)
        parts.append(part.masked_fill(source >= size, -1).unflatten(0, (number, side)))
    same = [part[:, :, None] == part[:, None, :] for part in parts]
    together = same[0][:, None, :, None, :, None] & same[1][None, :, None, :, None, :]
    return together.flatten(4, 5).flatten(2, 3).flatten(0, 1)
