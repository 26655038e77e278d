"""The LiSA backbone."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule, ModuleList, Sequential
from mmengine.model.weight_init import PretrainedInit, update_init_info
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from lisa_mm.models.attention import StructureAwareAttention
from lisa_mm.models.layers import MLP, DropPath, LayerScale, build_norm, init_layer
from lisa_mm.ops._checks import check_count, to_pair
from lisa_mm.registry import MODELS
from lisa_mm.utils.checkpoint import is_resizable, load_weights

STRIDES = (4, 8, 16, 32)
PRETRAINED = ('Pretrained', 'mmengine.Pretrained', PretrainedInit)
# Over channels and positions together (PoolFormer's choice, https://arxiv.org/abs/2111.11418). At
# each position on its own it would wipe out how strong the signal is here, compared with there,
# and over a batch it would need large ones; but what a sample is padded with counts in it.
DEFAULT_NORM = dict(type='GN', num_groups=1)
# How large the last weights of attention and MLP start, relative to keeping the variance.
BRANCH_START = 0.1


class LiSABlock(BaseModule):
    """A block: position encoding, attention and MLP, each with a residual.

    A depthwise 3x3 convolution stands before the attention, so that every
    attention that takes the slot has a local path and a sense of position
    (conditional position encoding, `CPVT <https://arxiv.org/abs/2102.10882>`_).
    MLP, and attention if it names its ``output_weight``, start with an output a
    tenth as large as their layers give, so that training starts from little
    more than the convolutions (measured in ``docs/design.md``). With layer
    scale, which has the same purpose, they start at full size.

    Args:
        embed_dims: Channels C.
        attention: Config of the attention module, complete.
        mlp_ratio: Hidden channels of the MLP over C.
        drop_path_rate: Probability of dropping a residual branch. Defaults
            to 0.
        layer_scale_init_value: What the learned factors of the residual
            branches start with; 0 for none. Defaults to 0.
        norm_cfg: Config of the normalisation, see
            :func:`lisa_mm.models.layers.build_norm`. Defaults to
            ``DEFAULT_NORM``.
        with_cp: Whether to compute the block again in the backward pass
            instead of keeping its activations. Defaults to False.
        init_cfg: Initialisation config of MMEngine. Defaults to None.
    """

    def __init__(
        self,
        embed_dims: int,
        attention: dict,
        mlp_ratio: float,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 0.0,
        norm_cfg: dict | None = None,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if embed_dims * mlp_ratio < 1:
            raise ValueError(
                f'mlp_ratio must give at least one hidden channel, got {mlp_ratio} of {embed_dims}'
            )
        norm_cfg = norm_cfg or DEFAULT_NORM
        self.with_cp = with_cp
        self.pos_conv = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)
        self.norm1 = build_norm(norm_cfg, embed_dims)
        self.attention = MODELS.build(attention)
        self.norm2 = build_norm(norm_cfg, embed_dims)
        self.mlp = MLP(embed_dims, int(embed_dims * mlp_ratio))
        self.scale1, self.scale2 = (
            LayerScale(embed_dims, layer_scale_init_value)
            if layer_scale_init_value
            else nn.Identity()
            for _ in range(2)
        )
        self.drop_path = DropPath(drop_path_rate)
        # The attention sees to its own initialisation.
        self.pos_conv.apply(init_layer)
        self.mlp.apply(init_layer)
        if not layer_scale_init_value:
            for branch_end in (getattr(self.attention, 'output_weight', None), self.mlp[-1].weight):
                if branch_end is not None:
                    branch_end.data *= BRANCH_START

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(self._mix, x, use_reentrant=False)
        return self._mix(x)

    def _mix(self, x: Tensor) -> Tensor:
        x = x + self.pos_conv(x)
        x = x + self.drop_path(self.scale1(self.attention(self.norm1(x))))
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))))


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
        attention: Config of the attention of every block, or four of them,
            one per stage. It is built with ``embed_dims`` and ``num_heads`` of
            the stage, and, where the constructor of the module names them,
            ``num_patterns``, ``rpe_radius``, ``reference_grid`` and ``shift``
            (True in every other block); what the config itself says has
            precedence. Defaults to
            ``dict(type='StructureAwareAttention')``.
        pretrain_img_size: Size (H, W) in pixels of the images that the
            position embeddings are made for; one number for both. Gives the
            ``reference_grid`` of each stage. Defaults to 224.
        drop_path_rate: Probability of dropping a residual branch, at the last
            block; it grows linearly from 0 at the first. Defaults to 0.
        layer_scale_init_value: What the learned factors of the residual
            branches start with; 0 for none, with which the branches start
            small instead, see :class:`LiSABlock`. Defaults to 0.
        norm_cfg: Config of all normalisations: ``type`` is ``'GN'``,
            ``'LN2d'`` (over channels, at each position), ``'BN'`` or
            ``'SyncBN'``. Defaults to ``dict(type='GN', num_groups=1)``.
        norm_eval: Whether batch normalisation keeps to its running statistics
            in training. Defaults to False.
        frozen_stages: How many stages are not trained, from the first: -1 none,
            0 the stem, 4 all. They stay in evaluation mode. Defaults to -1.
        with_cp: Whether to compute blocks again in the backward pass instead
            of keeping their activations: less memory, more time. Running
            statistics of batch normalisation are then updated twice. Defaults
            to False.
        init_cfg: Initialisation config of MMEngine. For
            ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')`` the
            weights are read by :func:`lisa_mm.utils.checkpoint.load_weights`.
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

    # Of what the weights mean. What a later one changes, `_load_from_state_dict` migrates or says.
    # 2: patterns are divided by how much of the tables a position sees.
    _version = 2

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
            depths=(2, 2, 9, 2),
            num_heads=(5, 10, 20, 40),
            num_patterns=(2, 2, 2, 2),
            rpe_radius=(27, 27, 13, 6),
            mlp_ratios=(4, 4, 4, 4),
        ),
        'base': dict(
            embed_dims=(96, 192, 384, 768),
            depths=(2, 2, 15, 2),
            num_heads=(6, 12, 24, 48),
            num_patterns=(2, 2, 2, 2),
            rpe_radius=(27, 27, 13, 6),
            mlp_ratios=(4, 4, 4, 4),
        ),
        'large': dict(
            embed_dims=(128, 256, 512, 1024),
            depths=(2, 2, 15, 2),
            num_heads=(8, 16, 32, 64),
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
        attention: dict | Sequence[dict] | None = None,
        pretrain_img_size: int | tuple[int, int] = 224,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 0.0,
        norm_cfg: dict | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        arch = self._resolve_arch(arch)
        self.out_indices = _check_out_indices(out_indices)
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f'drop_path_rate must be in [0, 1), got {drop_path_rate}')
        check_count('in_channels', in_channels)
        pretrain_img_size = to_pair('pretrain_img_size', pretrain_img_size, minimum=1)
        attentions = _per_stage(attention or dict(type='StructureAwareAttention'))
        norm_cfg = norm_cfg or DEFAULT_NORM
        if frozen_stages not in range(-1, len(STRIDES) + 1):
            raise ValueError(
                f'frozen_stages must be an integer from -1 to {len(STRIDES)}, got {frozen_stages!r}'
            )
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        dims, depths = arch['embed_dims'], arch['depths']
        drop_path_rates = torch.linspace(0, drop_path_rate, sum(depths)).tolist()

        # Stage i turns the map of stage i - 1 into its own: first `downsample`,
        # then its blocks. Stages that no output needs are left out.
        self.downsamples = ModuleList()
        self.stages = ModuleList()
        for i in range(self.out_indices[-1] + 1):
            dim, depth = dims[i], depths[i]
            self.downsamples.append(
                _stem(in_channels, dim, norm_cfg)
                if i == 0
                else Sequential(*_halve(dims[i - 1], dim, norm_cfg))
            )
            cfgs = [
                _complete(
                    attentions[i],
                    embed_dims=dim,
                    num_heads=arch['num_heads'][i],
                    num_patterns=arch['num_patterns'][i],
                    rpe_radius=arch['rpe_radius'][i],
                    reference_grid=tuple(-(-size // STRIDES[i]) for size in pretrain_img_size),
                    shift=j % 2 == 1,
                )
                for j in range(depth)
            ]
            rates, drop_path_rates = drop_path_rates[:depth], drop_path_rates[depth:]
            blocks = (
                LiSABlock(
                    dim,
                    cfg,
                    arch['mlp_ratios'][i],
                    rate,
                    layer_scale_init_value,
                    norm_cfg,
                    with_cp,
                )
                for cfg, rate in zip(cfgs, rates)
            )
            self.stages.append(Sequential(*blocks))
            if i in self.out_indices:
                self.add_module(f'norm{i}', build_norm(norm_cfg, dim))
        self.downsamples.apply(init_layer)
        for module in self._frozen_modules():
            module.requires_grad_(False)

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

    def train(self, mode: bool = True) -> LiSA:
        """Set training or evaluation mode; what is frozen stays in the latter."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says; pretrained weights come last."""
        if self.is_init:
            super().init_weights()  # which warns
            return
        init_cfg = self.init_cfg
        cfgs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []
        pretrained = [cfg for cfg in cfgs if cfg['type'] in PRETRAINED]
        self.init_cfg = [cfg for cfg in cfgs if cfg not in pretrained]
        super().init_weights()
        self.init_cfg = init_cfg
        for cfg in pretrained:
            load_weights(self, cfg['checkpoint'], cfg.get('prefix') or '')
            if hasattr(self, '_params_init_info'):  # a larger model initialises its parts
                update_init_info(self, init_info=f'loaded from {cfg["checkpoint"]}')

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Say in which layer a parameter stands, for layer-wise learning rates.

        The stem is layer 0, every block one more; what makes a stage smaller
        belongs to the stage's first block.

        Args:
            param_name: Name of the parameter in the whole model.
            prefix: Name of the backbone in it, with a dot. Defaults to ``''``.

        Returns:
            tuple[int, int]: The layer, and the number of layers. The last layer
            is what comes after the blocks, in the backbone and beyond.
        """
        depths = [len(stage) for stage in self.stages]
        num_layers = sum(depths) + 2
        part, _, rest = param_name.removeprefix(prefix).partition('.')
        if not param_name.startswith(prefix) or part not in ('downsamples', 'stages'):
            return num_layers - 1, num_layers
        stage, block = rest.split('.')[:2]
        if part == 'downsamples':
            if stage == '0':
                return 0, num_layers
            block = 0
        return sum(depths[: int(stage)]) + int(block) + 1, num_layers

    def _frozen_modules(self) -> list[nn.Module]:
        """List the modules that ``frozen_stages`` keeps from being trained."""
        stem = self.downsamples[: max(1, self.frozen_stages)] if self.frozen_stages >= 0 else []
        done = max(0, self.frozen_stages)
        norms = [getattr(self, f'norm{i}') for i in self.out_indices if i < done]
        return [*stem, *self.stages[:done], *norms]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict, *args: Any
    ) -> None:
        """Load weights; say which tables are carried over to another extent."""
        version = local_metadata.get('version')
        if version is not None and version > self._version:
            print_log(
                f'the weights of {type(self).__name__} are of version {version}, and this lisa_mm '
                f'knows versions up to {self._version}: update lisa_mm if they do not fit',
                logger='current',
                level=logging.WARNING,
            )
        if version == 1 and any(
            isinstance(module, StructureAwareAttention) and module.boundary == 'zero'
            for module in self.modules()
        ):
            print_log(
                f'the weights of {type(self).__name__} are of lisa_mm 0.1, whose attention was not '
                'divided by how much of the tables a position sees: it gives other features now; '
                'fine-tune them, or use that version',
                logger='current',
                level=logging.WARNING,
            )
        changes = [
            f'{name}, {tuple(state_dict[prefix + name].shape)} to {tuple(parameter.shape)}'
            for name, parameter in self.named_parameters()
            if prefix + name in state_dict
            and is_resizable(name, state_dict[prefix + name], parameter)
        ]
        if changes:
            print_log(
                f'{len(changes)} tables of {type(self).__name__} are carried over to another '
                f'extent, the first: {changes[0]}',
                logger='current',
            )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

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
                elif not isinstance(value, (int, float)) or not 0 < value < math.inf:
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


def _per_stage(attention: dict | Sequence[dict]) -> Sequence[dict]:
    """Return the configs of the attention, one per stage."""
    attentions = [attention] * len(STRIDES) if isinstance(attention, dict) else attention
    if not isinstance(attentions, Sequence) or len(attentions) != len(STRIDES):
        raise ValueError(
            f'attention must be a config, or {len(STRIDES)} of them, one per stage, '
            f'got {attention!r}'
        )
    return attentions


def _stem(in_channels: int, dim: int, norm_cfg: dict) -> Sequential:
    """Halve the size twice, by convolutions that overlap."""
    middle = dim // 2
    first, second = _halve(in_channels, middle, norm_cfg), _halve(middle, dim, norm_cfg)
    return Sequential(*first, nn.GELU(), *second)


def _halve(in_channels: int, out_channels: int, norm_cfg: dict) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, out_channels, 3, 2, 1), build_norm(norm_cfg, out_channels)


def _complete(attention: dict, embed_dims: int, num_heads: int, **offers: Any) -> dict:
    """Complete the config of an attention with what the stage offers.

    Of ``offers`` a module gets those that its constructor names. The scope
    makes a plain type one of this package: MMEngine would look it up in the
    default scope of the process, a detector's for instance.
    """
    kind = attention.get('type') if isinstance(attention, dict) else None
    attention_cls = MODELS.get(kind) if isinstance(kind, str) else kind
    if attention_cls is None:
        raise ValueError(
            f'attention must be a config with a registered type, such as '
            f"dict(type='StructureAwareAttention'), got {attention!r}"
            + (f'; no module {kind!r} is registered' if isinstance(kind, str) else '')
        )
    named = inspect.signature(attention_cls).parameters
    cfg = {name: value for name, value in offers.items() if name in named}
    return dict(cfg, embed_dims=embed_dims, num_heads=num_heads, _scope_='lisa_mm') | attention
