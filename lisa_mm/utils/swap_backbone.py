"""Putting LiSA in the place of the backbone of any config."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from .environment import CODEBASES

# For the AdamW that takes the place of SGD, by codebase: learning rate, weight decay and the
# batch size that they are for, of Swin's recipes in MMDetection, MMSegmentation and MMPretrain.
ADAMW = {'mmdet': (1e-4, 0.05, 16), 'mmseg': (6e-5, 0.01, 16), 'mmpretrain': (1e-3, 0.05, 1024)}
# As in the recipes of configs/, which have none of a detector on LiSA-large.
DROP_PATH_RATES = dict(tiny=0.1, small=0.2, base=0.3, large=0.4)
CONSTRUCTOR = 'lisa_mm.LayerDecayOptimWrapperConstructor'
# What the images of the configs for pretraining are normalised by: of ImageNet, in RGB.
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
# A multiple of all strides, and enough for the necks that go on to a hundredth of it.
PROBE_SIZE = 320


class FeatureMap(NamedTuple):
    """A map that a backbone or a neck gives: channels, and pixels per position if it is a map."""

    channels: int
    stride: int | None


class NotTriedError(ValueError):
    """The model could not be built and run as it was, so that nothing can be said of LiSA in it."""


def swap_backbone(cfg: Config, arch: str = 'small', checkpoint: str | None = None) -> list[str]:
    """Put LiSA in the place of the backbone of a detector, segmenter or classifier.

    What depends on the backbone follows: the input channels of neck or heads,
    the optimiser and its rules for weight decay, the normalisation of the
    images and the pretrained weights. The old backbone and its neck are built
    and run once on an empty image, to see what maps they give.

    Args:
        cfg: The config, of any codebase, changed in place.
        arch: Architecture, see :class:`lisa_mm.models.LiSA`. Defaults to
            ``'small'``.
        checkpoint: Checkpoint of a classifier on LiSA to start from. Defaults
            to None: from scratch.

    Returns:
        list[str]: What was changed, a line each.

    Raises:
        ValueError: If the model cannot take LiSA; the message says why. The
            config is then as it was.
        NotTriedError: A ValueError, if the model could not even be run with
            its own backbone, for want of a package or an operator for instance.

    Example:
        >>> from lisa_mm.utils.config import load_config
        >>> from lisa_mm.utils.swap_backbone import swap_backbone
        >>> cfg = load_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')
        >>> for line in swap_backbone(cfg, 'tiny')[:2]:
        ...     print(line)
        model.backbone: ResNet -> LiSA, tiny, from scratch
        model.neck.in_channels: [256, 512, 1024, 2048] -> [64, 128, 256, 512]
    """
    if cfg.get('default_scope') not in CODEBASES:
        raise ValueError(
            f'default_scope of the config must be one of {", ".join(CODEBASES)}, got '
            f'{cfg.get("default_scope")!r}'
        )
    init_default_scope(cfg.default_scope)
    swap = _Swap(cfg, arch, checkpoint)
    swap.model()
    swap.preprocessor()
    swap.optimizer()
    swap.checkpoints()
    for key, value in swap.cfg.items():
        cfg[key] = value
    return swap.changes


class _Swap:
    """The config being changed, and what was changed in it so far."""

    def __init__(self, cfg: Config, arch: str, checkpoint: str | None) -> None:
        self.scope = cfg.default_scope
        self.cfg = copy.deepcopy(cfg)
        self.arch = arch
        self.checkpoint = checkpoint
        self.changes: list[str] = []
        self.owner, self.path = _find_owner(self.cfg.get('model') or {})

    def set(self, node: dict, path: str, key: str, value: Any) -> None:
        """Set a value, and note it if it is another one than before."""
        old = node.get(key)
        if old != value:
            node[key] = value
            self.changes.append(f'{path}.{key}: {_short(old)} -> {_short(value)}')

    # -- the model -------------------------------------------------------------------------------

    def model(self) -> None:
        owner, path = self.owner, self.path
        old_type = owner.backbone.type
        if owner.backbone.get('in_channels', 3) != 3:
            raise ValueError(
                f'{old_type} takes {owner.backbone.in_channels} channels, and images are expected '
                'to have 3: set backbone and data_preprocessor by hand'
            )
        before = _feature_maps(owner.backbone)
        stages = _choose_stages(before, self.scope, old_type)
        backbone = ConfigDict(
            type='lisa_mm.LiSA',
            arch=self.arch,
            out_indices=stages,
            drop_path_rate=DROP_PATH_RATES.get(self.arch, 0.2),
        )
        after = _feature_maps(backbone, refuses=True)
        if self.checkpoint is not None:
            backbone.init_cfg = dict(
                type='Pretrained', checkpoint=self.checkpoint, prefix='backbone.'
            )
        start = 'from scratch' if self.checkpoint is None else f'weights of {self.checkpoint}'
        self.changes.append(f'{path}.backbone: {old_type} -> LiSA, {self.arch}, {start}')
        if stages[-1] < 3:
            self.changes.append(
                f'the last map is at stride {after[-1].stride}: LiSA is used up to its stage '
                f'{stages[-1]}, as the old backbone was'
            )
        old_backbone, owner.backbone = owner.backbone, backbone
        moved = [(a.stride, b.stride) for a, b in zip(before, after) if a.stride != b.stride]
        if moved:
            self.changes.append(
                f'strides of the maps: {[m.stride for m in before]} -> '
                f'{[m.stride for m in after]}, as LiSA is not dilated'
            )
        if owner.get('neck'):
            before, after = self._neck(old_backbone, before, after)
        getattr(self, f'_heads_of_{self.scope}')(before, after)
        if self.scope != 'mmdet':  # whose detectors do not run on an image alone
            names = f'{_type_of(owner)} with LiSA'
            _run(names, [owner], ValueError, lambda models, image: models[0](image, mode='predict'))
        # weights of the whole old model, or of its backbone
        for node, node_path, key in (
            (owner, path, 'pretrained'),
            (owner, path, 'init_cfg'),
            (self.cfg, 'cfg', 'load_from'),
        ):
            rules = key == 'init_cfg' and 'Pretrained' not in _type_of(node.get(key))
            if node.get(key) and not rules:
                self.set(node, node_path, key, None)

    def _neck(
        self, old_backbone: ConfigDict, before: list[FeatureMap], after: list[FeatureMap]
    ) -> tuple[list[FeatureMap], list[FeatureMap]]:
        """Fit the neck; return what it gave before and gives now."""
        neck, path = self.owner.neck, f'{self.path}.neck'
        old_maps = _feature_maps(old_backbone, neck)
        neck = copy.deepcopy(neck)
        if isinstance(neck, (list, tuple)):
            first, path = neck[0], f'{path}.0'
        else:
            first = neck
        if 'in_channels' in first:
            fitted = _fit_channels(first.in_channels, before, after)
            if fitted is None:
                raise ValueError(
                    f'{path} ({first.type}) takes in_channels={_short(first.in_channels)}, which '
                    f'are not those of the backbone, {[m.channels for m in before]}: set them by '
                    'hand'
                )
            start = first.get('start_level') or 0
            if start > 0:  # the norms of maps that nobody reads would have no gradients
                fitted = fitted[start:]
                self.owner.backbone.out_indices = self.owner.backbone.out_indices[start:]
                self.set(first, path, 'start_level', 0)
                if (first.get('end_level') or -1) > 0:
                    self.set(first, path, 'end_level', first.end_level - start)
            self.set(first, path, 'in_channels', fitted)
        new_maps = _feature_maps(self.owner.backbone, neck, refuses=True)
        self.owner.neck = neck
        return old_maps, new_maps

    def _heads_of_mmdet(self, before: list[FeatureMap], after: list[FeatureMap]) -> None:
        if [m.channels for m in before] == [m.channels for m in after]:
            return
        if self.owner.get('neck'):
            raise ValueError(
                f'the neck {_type_of(self.owner.neck)} passes on maps of the backbone, which the '
                'heads of MMDetection do not expect to change: set their in_channels by hand'
            )
        if (self.owner.get('roi_head') or {}).get('shared_head'):
            raise ValueError(
                f'its roi_head has a shared_head ({self.owner.roi_head.shared_head.type}), which '
                'is the last stage of the old backbone: take a config with a feature pyramid'
            )
        heads = {key: part for key, part in self.owner.items() if key != 'backbone'}
        if not self._fit_all(heads, self.path, before, after):
            raise ValueError('no head of it has the in_channels of its backbone: set them by hand')

    def _fit_all(
        self, part: Any, path: str, before: list[FeatureMap], after: list[FeatureMap]
    ) -> bool:
        """Fit the channels wherever a part has those of the backbone; tell whether one had."""
        if isinstance(part, (list, tuple)):
            found = [self._fit_all(p, f'{path}.{i}', before, after) for i, p in enumerate(part)]
            return any(found)
        if not isinstance(part, dict):
            return False
        found = [self._fit_all(p, f'{path}.{key}', before, after) for key, p in part.items()]
        keys = ['in_channels']
        if 'RoIExtractor' in str(part.get('type')):
            keys.append('out_channels')
        for key in keys:
            fitted = _fit_channels(part.get(key), before, after)
            if fitted is not None:
                self.set(part, path, key, fitted)
                found.append(True)
        return any(found)

    def _heads_of_mmseg(self, before: list[FeatureMap], after: list[FeatureMap]) -> None:
        read: set[int] = set()
        for name in ('decode_head', 'auxiliary_head'):
            heads = self.owner.get(name) or []
            if isinstance(heads, dict):
                self._segmentation_head(heads, f'{self.path}.{name}', after, read)
                continue
            for i, head in enumerate(heads):
                self._segmentation_head(head, f'{self.path}.{name}.{i}', after, read)
        if not self.owner.get('neck') and len(read) < len(after):
            # the norms of maps that nobody reads have no gradients, which DDP must be told
            self.set(self.cfg, 'cfg', 'find_unused_parameters', True)

    def _segmentation_head(
        self, head: ConfigDict, path: str, maps: list[FeatureMap], read: set[int]
    ) -> None:
        """Fit a head, and those inside of it, by the maps that its ``in_index`` names.

        Those maps are added to ``read``.
        """
        channels = [m.channels for m in maps]
        for key, part in head.items():
            if key.endswith('_head') and isinstance(part, dict):
                self._segmentation_head(part, f'{path}.{key}', maps, read)
        if 'in_channels' in head:
            many = isinstance(head.in_channels, (list, tuple))
            index = head.get('in_index', range(len(head.in_channels)) if many else -1)
            try:
                fitted = [channels[i] for i in index] if many else channels[index]
            except (IndexError, TypeError) as error:
                raise ValueError(
                    f'{path}.in_index={index} and in_channels={_short(head.in_channels)} do not '
                    f'go with the {len(channels)} maps that LiSA gives'
                ) from error
            self.set(head, path, 'in_channels', fitted)
            read.update(range(len(maps))[i] for i in (index if many else [index]))
        if 'c1_in_channels' in head:
            self.set(head, path, 'c1_in_channels', channels[0])
            read.add(0)

    def _heads_of_mmpretrain(self, before: list[FeatureMap], after: list[FeatureMap]) -> None:
        fitted = self._fit_all({'head': self.owner.get('head')}, self.path, before[-1:], after[-1:])
        if not fitted:
            raise ValueError(
                f'its head ({_type_of(self.owner.get("head"))}) has no in_channels of '
                f'{before[-1].channels}: set them by hand'
            )

    # -- what goes with it -----------------------------------------------------------------------

    def preprocessor(self) -> None:
        """Normalise images as in pretraining."""
        nodes = [(self.cfg.model, 'model'), (self.cfg, 'cfg')]
        if self.owner is not self.cfg.model:
            nodes.insert(0, (self.owner, self.path))
        for node, path in nodes:
            part, path = node.get('data_preprocessor'), f'{path}.data_preprocessor'
            if not isinstance(part, dict):
                continue
            if isinstance(part.get('data_preprocessor'), dict):  # several branches of data
                part, path = part.data_preprocessor, f'{path}.data_preprocessor'
            self.set(part, path, 'mean', MEAN)
            self.set(part, path, 'std', STD)
            rgb = 'to_rgb' if self.scope == 'mmpretrain' else 'bgr_to_rgb'
            self.set(part, path, rgb, True)
            part.pop('rgb_to_bgr', None)

    def optimizer(self) -> None:
        """Train with AdamW, and decay neither norms, nor biases, nor position embeddings."""
        wrapper = self.cfg.get('optim_wrapper') or {}
        kind = (wrapper.get('optimizer') or {}).get('type')
        if kind is None:
            self.changes.append('optim_wrapper names no optimizer of its own: left as it is')
            return
        if (kind if isinstance(kind, str) else kind.__name__).split('.')[-1] == 'SGD':
            lr, decay, batch_size = ADAMW[self.scope]
            base = (self.cfg.get('auto_scale_lr') or {}).get('base_batch_size', batch_size)
            adamw = dict(
                type='AdamW', lr=lr * base / batch_size, betas=(0.9, 0.999), weight_decay=decay
            )
            self.set(wrapper, 'optim_wrapper', 'optimizer', ConfigDict(adamw))
        paramwise = ConfigDict(wrapper.get('paramwise_cfg') or {})
        if wrapper.get('constructor') not in (None, 'DefaultOptimWrapperConstructor'):
            # The codebases' constructors for layer-wise learning rates know their own backbones.
            rate = paramwise.get('decay_rate', paramwise.get('layer_decay_rate', 1.0))
            for key in ('decay_rate', 'decay_type', 'num_layers'):
                paramwise.pop(key, None)
            self.set(wrapper, 'optim_wrapper', 'constructor', CONSTRUCTOR)
            paramwise.layer_decay_rate = rate
        keys = dict(paramwise.get('custom_keys') or {}, rpe_=dict(decay_mult=0.0))
        if 'backbone' in keys:
            # The default constructor would let this key decay all of the backbone; ours does not.
            keys['backbone'] = {k: v for k, v in keys['backbone'].items() if k != 'decay_mult'}
            self.set(wrapper, 'optim_wrapper', 'constructor', CONSTRUCTOR)
            paramwise.setdefault('layer_decay_rate', 1.0)
        # factors of zero, also for weights of one dimension: those of norms and of layer scale
        for key in ('norm_decay_mult', 'bias_decay_mult', 'flat_decay_mult'):
            paramwise[key] = 0.0
        paramwise['custom_keys'] = ConfigDict(keys)
        self.set(wrapper, 'optim_wrapper', 'paramwise_cfg', paramwise)

    def checkpoints(self) -> None:
        """Write checkpoints that survive being killed."""
        hook = (self.cfg.get('default_hooks') or {}).get('checkpoint')
        if hook and hook.get('type') == 'CheckpointHook':
            path = 'default_hooks.checkpoint'
            self.set(hook, path, 'type', 'lisa_mm.AtomicCheckpointHook')


def _find_owner(model: ConfigDict) -> tuple[ConfigDict, str]:
    """Find the part with the backbone: the model, or the detector that it is wrapped around."""
    for owner, path in ((model, 'model'), (model.get('detector') or {}, 'model.detector')):
        if isinstance(owner.get('backbone'), dict) and 'type' in owner.backbone:
            return owner, path
    raise ValueError(f'the model ({_type_of(model)}) has no backbone that could be exchanged')


def _feature_maps(
    backbone: ConfigDict, neck: ConfigDict | list | None = None, refuses: bool = False
) -> list[FeatureMap]:
    """Build a backbone, and a neck, and see what they make of an image.

    Where they cannot be run, that is a reason to refuse LiSA only if they could before.
    """
    parts = [part for part in (backbone, neck) if part]
    names = ' and '.join(_type_of(part) for part in parts)
    kind = ValueError if refuses else NotTriedError
    outs = _run(names, parts, kind, lambda modules, image: nn.Sequential(*modules)(image))
    if torch.is_tensor(outs) and neck is None:
        raise ValueError(f'{names} gives a bare tensor: its heads are made for it alone')
    outs = [outs] if torch.is_tensor(outs) else list(outs)
    if not outs or not all(torch.is_tensor(out) and out.dim() in (2, 4) for out in outs):
        raise ValueError(f'{names} gives no maps (B, C, H, W)')
    return [
        FeatureMap(out.shape[1], PROBE_SIZE // out.shape[-1] if out.dim() == 4 else None)
        for out in outs
    ]


def _run(
    names: str,
    parts: Sequence[ConfigDict | list],
    kind: type[ValueError],
    forward: Callable,
) -> Any:
    """Build parts of a model without their weights, and run them on an empty image."""
    random_state = torch.get_rng_state()
    try:
        modules = nn.ModuleList(MODELS.build(_without_weights(part)) for part in parts).eval()
        device = get_device()  # some parts have operators for GPUs only
        image = torch.zeros(1, 3, PROBE_SIZE, PROBE_SIZE)
        with torch.no_grad():
            return forward(modules.to(device), image.to(device))
    except Exception as error:  # whatever a part of a codebase raises, in its own words
        text = str(error).partition('\n')[0]
        if not text:  # a bare assert: what it wanted
            text = traceback.extract_tb(error.__traceback__)[-1].line
        reason = f'{type(error).__name__}: {text}'
        raise kind(
            f'{names} could not be built and run on {PROBE_SIZE} x {PROBE_SIZE} pixels: {reason}'
        ) from error
    finally:
        torch.set_rng_state(random_state)


def _choose_stages(maps: list[FeatureMap], scope: str, name: str) -> tuple[int, ...]:
    """Say which stages of LiSA take the place of the maps of another backbone."""
    strides = [m.stride for m in maps]
    own = {4: 0, 8: 1, 16: 2, 32: 3}
    fits = all(stride in own for stride in strides) and strides == sorted(set(strides))
    if fits and not (scope == 'mmpretrain' and strides[-1] < 32):  # for small images
        return tuple(own[stride] for stride in strides)
    # A dilated pyramid of a segmenter: its heads name its stages, of which LiSA has as many.
    if scope == 'mmseg' and len(maps) == 4 and strides in ([4, 8, 8, 8], [4, 8, 16, 16]):
        return 0, 1, 2, 3
    raise ValueError(
        f'{name} gives maps at strides {strides}, and LiSA one at each of 4, 8, 16 and 32: what '
        'follows is made for another kind of backbone'
    )


def _fit_channels(channels: Any, before: list[FeatureMap], after: list[FeatureMap]) -> Any:
    """Translate numbers of channels; None if they are not those of the maps before."""
    old, new = [m.channels for m in before], [m.channels for m in after]
    if isinstance(channels, int):
        return new[0] if [channels] == old else None
    if not isinstance(channels, Sequence) or isinstance(channels, str):
        return None
    kind = type(channels)  # some parts of the codebases insist on a tuple
    if list(channels) == old:
        return kind(new)
    return kind(new[::-1]) if list(channels) == old[::-1] else None


def _without_weights(part: Any) -> Any:
    """Copy a config without the weights that it would load."""
    if isinstance(part, (list, tuple)):
        return type(part)(_without_weights(item) for item in part)
    if not isinstance(part, dict):
        return part
    copied = {key: _without_weights(value) for key, value in part.items()}
    for key in ('pretrained', 'init_cfg'):
        if copied.get(key) is not None:
            copied[key] = None
    return ConfigDict(copied)


def _type_of(part: Any) -> str:
    if isinstance(part, (list, tuple)):
        return ' and '.join(_type_of(item) for item in part)
    return str(part.get('type')) if isinstance(part, dict) else str(part)


def _short(value: Any) -> str:
    """Show a value of a config in one line."""
    if isinstance(value, dict):
        return 'dict(' + ', '.join(f'{key}={_short(item)}' for key, item in value.items()) + ')'
    return str(list(value)) if isinstance(value, tuple) else repr(value)
