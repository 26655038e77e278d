"""The LiSA backbone."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule, ModuleList, Sequential
from torch import Tensor, nn

from lisa_mm.models.layers import MLP, DropPath, GroupNorm1, init_layer
from lisa_mm.ops._checks import check_count, to_pair
from lisa_mm.registry import MODELS

STRIDES = (4, 8, 16, 32)


class LiSABlock(BaseModule):
    """A block: position encoding, attention and MLP, each with a residual.

    A depthwise 3x3 convolution stands before the attention, so that every
    attention that takes the slot has a local path and a sense of position
    (conditional position encoding, `CPVT <https://arxiv.org/abs/2102.10882>`_).

    Args:
        embed_dims: Channels C.
        attention: Config of the attention module, complete.
        mlp_ratio: Hidden channels of the MLP over C.
        drop_path_rate: Probability of dropping a residual branch. Defaults
            to 0.
        init_cfg: Initialisation config of MMEngine. Defaults to None.
    """

    def __init__(
        self,
        embed_dims: int,
        attention: dict,
        mlp_ratio: float,
        drop_path_rate: float = 0.0,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.pos_conv = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)
        self.norm1 = GroupNorm1(embed_dims)
        self.attention = MODELS.build(attention)
        self.norm2 = GroupNorm1(embed_dims)
        self.mlp = MLP(embed_dims, int(embed_dims * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)
        # The attention sees to its own initialisation.
        self.pos_conv.apply(init_layer)
        self.mlp.apply(init_layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        x = x + self.pos_conv(x)
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


@MODELS.register_module()
class LiSA(BaseModule):
    """Hierarchical backbone of structure-aware attention.

    A convolutional stem and four stages of :class:`LiSABlock` at strides 4, 8,
    16 and 32. Inputs of any size are taken; the map of a stage with stride s
    has ``ceil(H / s)`` x ``ceil(W / s)`` positions.

    Args:
        arch: Name of an architecture of ``LiSA.arch_zoo``, or a dict with its
            keys, each a sequence of four values, one per stage:

            - ``embed_dims``: channels;
            - ``depths``: blocks;
            - ``num_heads``: heads of the attention;
            - ``num_patterns``: structural patterns per head;
            - ``rpe_radius``: half extents of the position embeddings;
            - ``mlp_ratios``: hidden channels of the MLP over its channels.

            Defaults to ``'small'``.
        in_channels: Channels of the input. Defaults to 3.
        out_indices: Stages whose maps are returned, of 0 to 3. Defaults to
            ``(0, 1, 2, 3)``.
        attention: Config of the attention of every block. It is built with
            ``embed_dims`` and ``num_heads`` of the stage, and, where the
            constructor of the module names them, ``num_patterns``,
            ``rpe_radius`` and ``reference_grid``; what the config itself says
            has precedence. Defaults to
            ``dict(type='StructureAwareAttention')``.
        pretrain_img_size: Size (H, W) in pixels of the images that the
            position embeddings are made for; one number for both. Gives the
            ``reference_grid`` of each stage. Defaults to 224.
        drop_path_rate: Probability of dropping a residual branch, at the last
            block; it grows linearly from 0 at the first. Defaults to 0.
        init_cfg: Initialisation config of MMEngine, such as
            ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.
            Defaults to None.

    Raises:
        TypeError: If ``arch`` is neither a name nor a dict.
        ValueError: If ``arch`` is unknown or incomplete, or an argument is out
            of its range.

    Example:
        >>> import torch
        >>> from lisa_mm.models import LiSA
        >>> backbone = LiSA(arch='tiny')
        >>> for feature in backbone(torch.randn(1, 3, 65, 96)):
        ...     print(tuple(feature.shape))
        (1, 64, 17, 24)
        (1, 128, 9, 12)
        (1, 256, 5, 6)
        (1, 512, 3, 3)

    Source: the operator of `Lightweight Structure-Aware Attention for Visual
    Understanding <https://arxiv.org/abs/2211.16289>`_ in a macro-architecture
    of this project's own.
    """

    arch_zoo = {
        'tiny': dict(
            embed_dims=(64, 128, 256, 512),
            depths=(2, 2, 6, 2),
            num_heads=(4, 8, 16, 32),
            num_patterns=(2, 2, 2, 2),
            rpe_radius=(27, 27, 13, 6),
            mlp_ratios=(4, 4, 4, 4),
        ),
        'small': dict(
            embed_dims=(80, 160, 320, 640),
            depths=(2, 3, 9, 2),
            num_heads=(5, 10, 20, 40),
            num_patterns=(2, 2, 2, 2),
            rpe_radius=(27, 27, 13, 6),
            mlp_ratios=(4, 4, 4, 4),
        ),
    }

    def __init__(
        self,
        arch: str | dict[str, Sequence] = 'small',
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        attention: dict | None = None,
        pretrain_img_size: int | tuple[int, int] = 224,
        drop_path_rate: float = 0.0,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        arch = self._resolve_arch(arch)
        self.out_indices = _check_out_indices(out_indices)
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f'drop_path_rate must be in [0, 1), got {drop_path_rate}')
        check_count('in_channels', in_channels)
        pretrain_img_size = to_pair('pretrain_img_size', pretrain_img_size, minimum=1)
        attention = attention or dict(type='StructureAwareAttention')
        dims, depths = arch['embed_dims'], arch['depths']
        drop_path_rates = torch.linspace(0, drop_path_rate, sum(depths)).tolist()

        # Stage i turns the map of stage i - 1 into its own: first `downsample`,
        # then its blocks. Stages that no output needs are left out.
        self.downsamples = ModuleList()
        self.stages = ModuleList()
        for i in range(self.out_indices[-1] + 1):
            dim, depth = dims[i], depths[i]
            self.downsamples.append(
                _stem(in_channels, dim) if i == 0 else Sequential(*_halve(dims[i - 1], dim))
            )
            cfg = _complete(
                attention,
                embed_dims=dim,
                num_heads=arch['num_heads'][i],
                num_patterns=arch['num_patterns'][i],
                rpe_radius=arch['rpe_radius'][i],
                reference_grid=tuple(-(-size // STRIDES[i]) for size in pretrain_img_size),
            )
            rates, drop_path_rates = drop_path_rates[:depth], drop_path_rates[depth:]
            self.stages.append(
                Sequential(*(LiSABlock(dim, cfg, arch['mlp_ratios'][i], rate) for rate in rates))
            )
            if i in self.out_indices:
                self.add_module(f'norm{i}', GroupNorm1(dim))
        self.downsamples.apply(init_layer)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of the stages named by ``out_indices``.

        Args:
            x: Images, (B, in_channels, H, W).

        Returns:
            tuple[Tensor, ...]: One map (B, C_i, ceil(H / s_i), ceil(W / s_i))
            per stage, normalised and contiguous.
        """
        outs = []
        for i, (downsample, stage) in enumerate(zip(self.downsamples, self.stages)):
            x = stage(downsample(x))
            if i in self.out_indices:
                outs.append(getattr(self, f'norm{i}')(x).contiguous())
        return tuple(outs)

    @classmethod
    def _resolve_arch(cls, arch: str | dict[str, Sequence]) -> dict[str, Sequence]:
        """Look up or check an architecture."""
        if isinstance(arch, str):
            if arch not in cls.arch_zoo:
                raise ValueError(
                    f'arch must be one of {", ".join(map(repr, cls.arch_zoo))}, or a dict, '
                    f'got {arch!r}'
                )
            return cls.arch_zoo[arch]
        if not isinstance(arch, dict):
            raise TypeError(f'arch must be a name or a dict, got {type(arch).__name__}')
        keys = set(next(iter(cls.arch_zoo.values())))
        if set(arch) != keys:
            raise ValueError(
                f'arch must have exactly the keys {sorted(keys)}; missing: '
                f'{sorted(keys - set(arch))}, unknown: {sorted(set(arch) - keys)}'
            )
        for key, values in arch.items():
            if not isinstance(values, Sequence) or len(values) != len(STRIDES):
                raise ValueError(
                    f'arch[{key!r}] must have {len(STRIDES)} values, one per stage, got {values!r}'
                )
            for i, value in enumerate(values):
                name = f'arch[{key!r}][{i}]'
                if key == 'rpe_radius':
                    to_pair(name, value, minimum=0)
                elif key != 'mlp_ratios':
                    check_count(name, value)
                elif not isinstance(value, (int, float)) or value <= 0:
                    raise ValueError(f'{name} must be a positive number, got {value!r}')
        return arch


def _check_out_indices(out_indices: Sequence[int]) -> tuple[int, ...]:
    indices = tuple(out_indices) if isinstance(out_indices, Sequence) else ()
    stages = range(len(STRIDES))
    if not indices or list(indices) != sorted(set(indices)) or not set(indices) <= set(stages):
        raise ValueError(
            f'out_indices must name stages out of {tuple(stages)} in ascending order, '
            f'got {out_indices!r}'
        )
    return indices


def _stem(in_channels: int, dim: int) -> Sequential:
    """Halve the size twice, by convolutions that overlap."""
    return Sequential(*_halve(in_channels, dim // 2), nn.GELU(), *_halve(dim // 2, dim))


def _halve(in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, out_channels, 3, 2, 1), GroupNorm1(out_channels)


def _complete(attention: dict, embed_dims: int, num_heads: int, **offers: Any) -> dict:
    """Complete the config of an attention with what the stage offers.

    Of ``offers`` a module gets those that its constructor names. The scope
    makes a plain type one of this package: MMEngine would look it up in the
    default scope of the process, a detector's for instance.
    """
    kind = attention.get('type')
    attention_cls = MODELS.get(kind) if isinstance(kind, str) else kind
    if attention_cls is None:
        raise ValueError(
            f'attention must be a config with a registered type, such as '
            f"dict(type='StructureAwareAttention'), got {attention!r}"
        )
    named = inspect.signature(attention_cls).parameters
    cfg = {name: value for name, value in offers.items() if name in named}
    return dict(cfg, embed_dims=embed_dims, num_heads=num_heads, _scope_='lisa_mm') | attention
