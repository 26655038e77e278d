"""Structure-aware attention as a module."""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from lisa_mm.models.layers import init_layer
from lisa_mm.ops import (
    apply_patterns,
    extend_table,
    interpolate_table,
    seen_energy,
    structural_patterns,
)
from lisa_mm.ops._cache import PreparedTables
from lisa_mm.ops._checks import BOUNDARIES, IMPLS, check_count, check_option, to_pair
from lisa_mm.ops._choice import choose_impl
from lisa_mm.ops._dense import DenseCorrelation, matrix_rows
from lisa_mm.ops._fourier import FourierCorrelation
from lisa_mm.ops._operators import attend, prepare_table
from lisa_mm.ops._precision import compute_dtype
from lisa_mm.ops._registration import is_compiling
from lisa_mm.registry import MODELS

from ._base import QKVAttention, check_positions, l2_normalize, similarities

RESOLUTIONS = ('extend', 'interpolate')
# About what every position sees of a table that reaches from corner to corner, by energy.
USUAL_ENERGY = 0.25
# Less than this share of a table is not made up for.
LEAST_ENERGY = 0.01


@MODELS.register_module()
class StructureAwareAttention(QKVAttention):
    """Multi-head structure-aware attention (LiSA) on a grid.

    Queries and keys are L2-normalised per head, the tables start as white
    noise of unit L2 norm, and the patterns are scaled so that at initialisation
    the output has about the magnitude of the values; with a zero boundary a
    quarter of it, on any grid. For that the patterns of a position are divided by
    how much of the tables it sees, in the way of partial convolutions: what is
    trained on crops would otherwise be off on whole images.

    In evaluation without gradients, what depends on the tables and the grid
    alone is kept for the last few grids. It is forgotten on ``train()``,
    ``eval()``, loading and every change of the tables that PyTorch counts; on a
    GPU a write through ``.data`` needs :meth:`clear_prepared_tables`, or
    ``eval()``, after it.

    It compiles without a graph break (PyTorch 2.4 and later), and exports to
    ONNX by ``torch.onnx.export(..., dynamo=True)``, with open sizes unless
    ``resolution='interpolate'``. It cannot be differentiated twice.

    Args:
        embed_dims: Channels C of input and output.
        num_heads: Heads G; each has C / G channels.
        num_patterns: Structural patterns P of a head. Defaults to 2.
        rpe_radius: Half extents (ry, rx) of the relative position embeddings,
            in positions of the grid; one number for both. Defaults to 13.
        boundary: What the tables see outside the grid: nothing (``'zero'``) or
            the grid wrapped around (``'circular'``). Defaults to ``'zero'``.
        resolution: How the tables are carried to a grid other than
            ``reference_grid``: ``'extend'`` leaves every offset its weight,
            ``'interpolate'`` stretches the tables with the grid. Weights of
            tables with another extent are loaded by the same policy. Defaults
            to ``'extend'``.
        reference_grid: Grid (H, W) that the tables are made for; one number
            for both. Needed by ``'interpolate'``, and saved with the weights.
            Defaults to None.
        qkv_bias: Whether queries, keys and values have a bias. Defaults to
            True.
        impl: Implementation, see :func:`lisa_mm.ops.structure_aware_attention`.
            Defaults to ``'auto'``.
        init_cfg: Initialisation config of MMEngine. Defaults to None.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from lisa_mm.models import StructureAwareAttention
        >>> attention = StructureAwareAttention(embed_dims=32, num_heads=4)
        >>> attention(torch.randn(2, 32, 17, 30)).shape
        torch.Size([2, 32, 17, 30])

    Source: this project's reading of `Lightweight Structure-Aware Attention for
    Visual Understanding <https://arxiv.org/abs/2211.16289>`_; the division after
    `Partial Convolution based Padding <https://arxiv.org/abs/1811.11718>`_.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_patterns: int = 2,
        rpe_radius: int | tuple[int, int] = 13,
        boundary: str = 'zero',
        resolution: str = 'extend',
        reference_grid: int | tuple[int, int] | None = None,
        qkv_bias: bool = True,
        impl: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(embed_dims, num_heads, qkv_bias, init_cfg)
        check_count('num_patterns', num_patterns)
        check_option('boundary', boundary, BOUNDARIES)
        check_option('resolution', resolution, RESOLUTIONS)
        check_option('impl', impl, IMPLS)
        if resolution == 'interpolate' and reference_grid is None:
            raise ValueError(
                "resolution='interpolate' needs reference_grid, the grid (H, W) that the "
                'tables are made for'
            )
        radius = to_pair('rpe_radius', rpe_radius, minimum=0)
        self.num_patterns = num_patterns
        self.boundary = boundary
        self.resolution = resolution
        self.impl = impl
        # A random pair of unit vectors of dk channels has a product of variance
        # 1 / dk, and the output is a sum over P patterns.
        self.scale = (embed_dims // num_heads / num_patterns) ** 0.5

        shape = num_heads, num_patterns, 2 * radius[0] + 1, 2 * radius[1] + 1
        self.rpe_encoder = nn.Parameter(_white_noise(shape))
        self.rpe_decoder = nn.Parameter(_white_noise(shape))
        self.apply(init_layer)
        self._prepared = PreparedTables()
        self._reference = None
        if resolution == 'interpolate':
            self._reference = to_pair('reference_grid', reference_grid, minimum=1)
            self.register_buffer('reference_grid', torch.tensor(self._reference))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mix values, (B, G, c, H, W) like queries and keys."""
        query, key = l2_normalize(query) * self.scale, l2_normalize(key)
        if self._may_keep_tables(key):
            encoder, seen_encoder = self._prepared_table('rpe_encoder', key)
            decoder, seen_decoder = self._prepared_table('rpe_decoder', value)
            return attend(query, key, value, encoder, decoder, seen_encoder * seen_decoder)
        tables = self.tables(key.shape[-2:])
        patterns = structural_patterns(query, key, tables[0], self.boundary, self.impl)
        patterns = patterns * self._factors(tables, key.shape[-2:])
        return apply_patterns(patterns, value, tables[1], self.boundary, self.impl)

    def tables(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return pattern encoders and decoders for a grid, (G, P, 2*ry+1, 2*rx+1) each."""
        return self._table_for(grid, self.rpe_encoder), self._table_for(grid, self.rpe_decoder)

    def patterns(self, x: Tensor) -> Tensor:
        """Compute the structural patterns s of a map.

        Args:
            x: (B, C, H, W), any grid.

        Returns:
            Tensor: (B, G, P, H, W).
        """
        query, key, _ = self.heads(x)
        query, key = l2_normalize(query) * self.scale, l2_normalize(key)
        tables = self.tables(x.shape[-2:])
        patterns = structural_patterns(query, key, tables[0], self.boundary, self.impl)
        return patterns * self._factors(tables, x.shape[-2:])

    def plain_kernels(self, x: Tensor, positions: Tensor) -> Tensor:
        """Compute the attention kernels a = q k of queries, from which the patterns are made.

        Args and returns as in :meth:`kernels`, which gives the structure-aware
        kernels K made of them.
        """
        rows, columns = check_positions(positions, x)
        query, key, _ = self.heads(x)
        return self._similarities(query[..., rows, columns], key)

    def train(self, mode: bool = True) -> StructureAwareAttention:
        """Set training or evaluation mode; either way, forget the prepared tables."""
        self.clear_prepared_tables()
        return super().train(mode)

    def clear_prepared_tables(self) -> None:
        """Forget what evaluation has prepared of the tables."""
        self._prepared.clear()

    def extra_repr(self) -> str:
        """Name what the submodules do not show."""
        return (
            f'num_heads={self.num_heads}, num_patterns={self.num_patterns}, '
            f'rpe={_extent(self.rpe_encoder)}, boundary={self.boundary!r}, '
            f'resolution={self.resolution!r}, impl={self.impl!r}'
        )

    def _similarities(self, query: Tensor, key: Tensor) -> Tensor:
        return similarities(l2_normalize(query) * self.scale, l2_normalize(key))

    def _kernels(self, query: Tensor, key: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        grid = key.shape[-2:]
        tables = self.tables(grid)
        encoder, decoder = (
            matrix_rows(table.to(key.dtype), (rows, columns), grid, self.boundary)
            for table in tables
        )
        patterns = torch.einsum('bgkhw,gpkhw->bgpk', self._similarities(query, key), encoder)
        factors = self._factors(tables, grid)
        if self.boundary == 'zero':
            factors = factors[:, :, rows, columns]
        patterns = patterns * factors
        return torch.einsum('bgpk,gpkhw->bgkhw', patterns, decoder)

    def _factors(self, tables: tuple[Tensor, Tensor], grid: tuple[int, int]) -> Tensor | float:
        """Return what the patterns are multiplied with, (G, P, H, W)."""
        seen_encoder, seen_decoder = (self._factor(table, grid) for table in tables)
        return seen_encoder * seen_decoder

    def _factor(self, table: Tensor, grid: tuple[int, int]) -> Tensor | float:
        """Return what makes up for the part of a table that is not seen, (G, P, H, W)."""
        if self.boundary == 'circular':  # all of it is
            return 1.0
        return (USUAL_ENERGY**0.5) * seen_energy(table, grid).clamp_min(LEAST_ENERGY).rsqrt()

    def _table_for(self, grid: tuple[int, int], table: Tensor) -> Tensor:
        """Carry a table to a grid by the policy."""
        # With 'extend' a table is what it is: the operator takes any extent.
        if self._reference is None:
            return table
        if torch.jit.is_tracing():
            grid = [int(size) for size in grid]
        elif torch.onnx.is_in_onnx_export() and not all(isinstance(n, int) for n in grid):
            raise ValueError(
                "resolution='interpolate' makes tables for one grid: export it with a fixed height "
                'and width, without dynamic_shapes for them'
            )
        if self._reference == tuple(grid):
            return table
        stretch = [size / reference for size, reference in zip(grid, self._reference)]
        radius = [round(int(n) // 2 * factor) for n, factor in zip(table.shape[2:], stretch)]
        return interpolate_table(table, stretch, radius)

    def _may_keep_tables(self, maps: Tensor) -> bool:
        """Whether this is plain evaluation: no gradients, no tracing, weights of its own."""
        return not (
            self.training
            or torch.is_grad_enabled()
            or is_compiling()
            or torch.onnx.is_in_onnx_export()
            or torch.jit.is_tracing()
            # neither a fake tensor nor another subclass, whose values are not to be kept
            or type(maps) is not Tensor
            or maps.device.type == 'meta'
            or any(type(t) is not nn.Parameter for t in (self.rpe_encoder, self.rpe_decoder))
        )

    def _prepared_table(
        self, name: str, maps: Tensor
    ) -> tuple[DenseCorrelation | FourierCorrelation, Tensor | float]:
        """Return a table made ready to be correlated with maps, and its factor; both are kept."""
        table = getattr(self, name)
        dtype = compute_dtype(maps, table)
        grid = maps.shape[-2:]
        impl = choose_impl(self.impl, maps.shape, table.shape, self.boundary, maps.device)

        def prepare(table):
            ready = prepare_table(table, maps, self.boundary, impl, dtype)
            return ready, self._factor(table, grid)

        return self._prepared.get(
            (name, grid, impl, dtype, self.boundary),
            table,
            lambda: prepare(self._table_for(grid, table)),
        )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load weights; tables of another extent are carried over by the policy."""
        self._prepared.clear()
        grid_key = prefix + 'reference_grid'
        stretch = (1.0, 1.0)
        if self._reference is None:
            state_dict.pop(grid_key, None)
        else:
            # Weights trained with 'extend' are for the grid that this module names.
            grid = state_dict.setdefault(grid_key, self.reference_grid).tolist()
            stretch = tuple(own / other for own, other in zip(self._reference, grid))
        for name in ('rpe_encoder', 'rpe_decoder'):
            key, own = prefix + name, getattr(self, name)
            table = state_dict.get(key)
            if table is None or table.shape == own.shape or table.shape[:2] != own.shape[:2]:
                continue  # nothing to carry over, or not a matter of the extent
            radius = [size // 2 for size in own.shape[2:]]
            if self.resolution == 'extend':
                state_dict[key] = extend_table(table, radius)
                done = 'offset by offset'
            else:
                state_dict[key] = interpolate_table(table, stretch, radius)
                state_dict[grid_key] = self.reference_grid.clone()
                done = f'stretched by {stretch[0]:.3g} x {stretch[1]:.3g}'
            print_log(
                f'{key}: tables of {_extent(table)} offsets carried over to {_extent(own)} '
                f'(resolution={self.resolution!r}: {done})',
                logger='current',
                level=logging.DEBUG,  # the backbone says it once, of all its tables
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if self._reference is not None:
            self._reference = tuple(self.reference_grid.tolist())


def _white_noise(shape: tuple[int, ...]) -> Tensor:
    """Return random tables of unit L2 norm: independent of their extent in effect."""
    return F.normalize(torch.randn(shape).flatten(2), dim=2).view(shape)


def _extent(table: Tensor) -> str:
    return 'x'.join(str(size) for size in table.shape[2:])
