"""Trying out models of the codebases on images made up for the purpose."""

from __future__ import annotations

import copy
import os.path as osp
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData

from lisa_mm.utils.config import config_folder, iter_datasets, load_config
from lisa_mm.utils.swap_backbone import NotTriedError, swap_backbone

# Of two images: positions enough at strides 8 to 64 for the 900 queries of DINO.
SHAPES = (224, 256), (256, 224)
# For those that need more, at strides of 128 and 256.
LARGE_SHAPES = (320, 352), (352, 320)


def synthetic_batch(
    scope: str,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    num_classes: int = 1,
    with_mask: bool = True,
    with_seg: bool = True,
    with_proposals: bool = True,
) -> dict[str, Any]:
    """Make up a batch of two images with annotations, as the loaders would give it.

    Args:
        scope: The codebase: ``'mmdet'``, ``'mmseg'`` or ``'mmpretrain'``.
        shapes: Height and width of the two images in pixels; segmenters and
            classifiers take the first one for both. Defaults to ``SHAPES``.
        num_classes: Labels are below it. Defaults to 1.
        with_mask: Whether a detector gets masks. Defaults to True.
        with_seg: Whether a detector gets label maps. Defaults to True.
        with_proposals: Whether a detector gets proposals. Defaults to True.

    Returns:
        dict: ``inputs`` and ``data_samples`` for a data preprocessor; for a
        detector with boxes.

    Example:
        >>> from lisa_mm.analysis.compatibility import synthetic_batch
        >>> [tuple(image.shape) for image in synthetic_batch('mmseg')['inputs']]
        [(3, 224, 256), (3, 224, 256)]
    """
    if scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        batch = demo_mm_inputs(
            len(shapes),
            [(3, *shape) for shape in shapes],
            num_items=[3, 1],
            num_classes=num_classes + 1,  # labels from 1 on
            with_mask=with_mask,
            with_semantic=with_seg,
        )
        for sample in batch['data_samples']:
            sample.gt_instances.labels -= 1
            if with_proposals:
                sample.proposals = InstanceData(bboxes=sample.gt_instances.bboxes.clone())
        return batch
    images = torch.randint(256, (2, 3, *shapes[0]), dtype=torch.uint8)
    if scope == 'mmseg':
        from mmseg.structures import SegDataSample

        samples = []
        for _ in images:
            labels = torch.randint(num_classes, (1, *shapes[0]))
            sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
            sample.set_metainfo(dict(img_shape=shapes[0], ori_shape=shapes[0]))
            samples.append(sample)
        return dict(inputs=list(images), data_samples=samples)
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(i % num_classes) for i in range(len(images))]
    return dict(inputs=images, data_samples=samples)


def train_and_predict(
    cfg: Config, shapes: Sequence[tuple[int, int]] = SHAPES, num_classes: int = 1
) -> torch.nn.Module:
    """Build a model, compute its loss and gradients on made-up images, and predict.

    Args:
        cfg: The config, of any codebase. Batch normalisation across processes
            is turned into the plain one.
        shapes: Height and width of the two images. Defaults to ``SHAPES``.
        num_classes: Labels are below it. Defaults to 1.

    Returns:
        nn.Module: The model, with gradients, in evaluation mode.

    Raises:
        ValueError: If the loss is not finite, or predictions are missing; and
            whatever the model raises.
    """
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    owner = cfg.model if 'backbone' in cfg.model else cfg.model.get('detector', cfg.model)
    if cfg.get('data_preprocessor'):
        owner.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = revert_sync_batchnorm(MODELS.build(owner))
    model.init_weights()
    # some augmentations and losses ask how far the training is
    MessageHub.get_current_instance().update_info_dict(dict(iter=0, epoch=0))
    loads = [step for dataset in iter_datasets(cfg.train_dataloader) for step in dataset.pipeline]
    panoptic = any(step['type'] == 'LoadPanopticAnnotations' for step in loads)  # loads all
    kinds = {
        key: panoptic or any(step.get(key) for step in loads) for key in ('with_mask', 'with_seg')
    }
    kinds['with_proposals'] = not owner.get('rpn_head')  # Fast R-CNN has none
    batch = synthetic_batch(cfg.default_scope, shapes, num_classes, **kinds)
    losses = model.train()(**model.data_preprocessor(batch, True), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    if not loss.isfinite():
        raise ValueError(f'the loss is {loss.item()}')
    batch = synthetic_batch(cfg.default_scope, shapes, num_classes, **kinds)
    with torch.no_grad():
        predictions = model.eval()(**model.data_preprocessor(batch, False), mode='predict')
    if len(predictions) != len(batch['inputs']):
        raise ValueError(f'{len(predictions)} predictions for {len(batch["inputs"])} images')
    return model


def check_swap(config: str, arch: str = 'tiny') -> dict[str, str]:
    """Put LiSA into a config of a codebase, and try the model out.

    Args:
        config: Its name, such as ``mmdet::NAME``.
        arch: Architecture of the backbone. Defaults to ``'tiny'``.

    Returns:
        dict: ``result``, one of ``'works'``, ``'refused'`` (LiSA cannot stand
        there) and ``'fails'``, and ``reason``, empty if it works.
    """
    try:
        cfg = load_config(config)
    except Exception as error:
        return dict(result='fails', reason=f'reading the config: {_describe(error)}')
    try:
        swap_backbone(cfg, arch)
    except NotTriedError as error:
        return dict(result='fails', reason=str(error))
    except ValueError as error:
        return dict(result='refused', reason=str(error))
    for shapes in (SHAPES, LARGE_SHAPES):
        try:
            train_and_predict(copy.deepcopy(cfg), shapes)
            return dict(result='works', reason='')
        except Exception as error:
            reason = _describe(error)
    return dict(result='fails', reason=reason)


def detector_families(only: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
    """Yield every folder of MMDetection's configs with a detector, and one config of it.

    That is the first on ResNet-50, or else the first, of those with the
    shortest names. Folders of trackers are left out.

    Args:
        only: Names of folders to look into. Defaults to None: all.
    """
    from mmdet.models.detectors import BaseDetector
    from mmdet.registry import MODELS as DETECTORS

    root = Path(config_folder('mmdet'))
    for folder in sorted(root.iterdir()):
        if folder.name in ('_base_', 'common') or not _wanted(folder.name, only):
            continue
        paths = folder.glob('*.py')
        for path in sorted(paths, key=lambda p: ('r50' not in p.name, len(p.name), p.name)):
            kind = _read_model(path).get('type')
            detector = DETECTORS.get(kind) if isinstance(kind, str) else kind
            if isinstance(detector, type) and issubclass(detector, BaseDetector):
                yield folder.name, f'mmdet::{path.relative_to(root).as_posix()}'
                break


def decode_head_families(only: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
    """Yield every decode head that MMSegmentation's configs use, and one config of it.

    That is the one with the shortest name, of those on ResNet-50 if there are
    any.

    Args:
        only: Names of heads. Defaults to None: all.
    """
    root = Path(config_folder('mmseg'))
    found: dict[str, list[Path]] = {}
    for path in sorted(root.glob('*/*.py')):
        if path.parent.name == '_base_':
            continue
        heads = _read_model(path).get('decode_head') or []
        for head in [heads] if isinstance(heads, dict) else heads:
            found.setdefault(head['type'], []).append(path)
    for kind, paths in sorted(found.items()):
        if not _wanted(kind, only):
            continue
        path = min(paths, key=lambda p: ('r50' not in p.name, len(p.name), p.name))
        yield kind, f'mmseg::{path.relative_to(root).as_posix()}'


def _wanted(name: str, only: Sequence[str] | None) -> bool:
    return only is None or name in only


def _read_model(path: Path) -> dict:
    """Read the model of a config; empty if the codebase's own bases of it are missing."""
    try:
        return Config.fromfile(path).get('model', {})
    except (FileNotFoundError, ImportError):
        return {}


def _describe(error: Exception) -> str:
    """Name an error and where it was raised: many of the codebases have no text."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = ' '.join(str(error).split())[:200].replace(sysconfig.get_path('purelib'), '...')
    place = f'{osp.basename(frame.filename)}, {frame.name}'
    return (
        f'{type(error).__name__}: {text} ({place})' if text else f'{type(error).__name__} ({place})'
    )
