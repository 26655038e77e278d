"""Trained models, real images, and what goes in and out of the attention of a backbone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS, init_default_scope
from PIL import Image, ImageOps
from torch import Tensor, nn

from lisa_mm.models import LiSA
from lisa_mm.utils.checkpoint import (
    CheckpointError,
    check_weights,
    find_misfits,
    load_checkpoint,
    state_dict_of,
)

# so that no stage has a part of a position
DIVISOR = 32
IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


def load_model(cfg: Config, checkpoint: str | os.PathLike | None = None) -> nn.Module:
    """Build the model of a config, with the weights of a checkpoint, for evaluation.

    Weights of heads that are of another shape are left out.

    Args:
        cfg: Config of any codebase.
        checkpoint: Checkpoint file. Defaults to None: random weights.

    Returns:
        nn.Module: The model, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the checkpoint is not for this model, or not for its
            backbone.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = MODELS.build(cfg.model)
    if checkpoint is not None:
        loaded = load_checkpoint(os.fspath(checkpoint))
        check_weights(model, loaded)
        weights = state_dict_of(loaded)
        misfits = find_misfits(model, weights)  # a head, for the classes of other data
        for name in misfits:
            del weights[name]
        if misfits:
            print_log(
                f'{len(misfits)} tensors of another shape in {os.fspath(checkpoint)} are left out, '
                f'the first: {misfits[0]}',
                logger='current',
                level=logging.WARNING,
            )
        missing, unexpected = model.load_state_dict(weights, strict=False)
        backbones = [name for name, module in model.named_modules() if isinstance(module, LiSA)]
        lacking, extra = (
            [key for key in keys if key.startswith(tuple(f'{name}.' for name in backbones))]
            for keys in (missing, unexpected)
        )
        if extra:
            print_log(
                f'{os.fspath(checkpoint)} holds {len(extra)} tensors that the backbone has not, '
                f'the first: {extra[0]}. Was it trained with another attention?',
                logger='current',
                level=logging.WARNING,
            )
        if lacking:  # they would be random, and taken for trained
            raise CheckpointError(
                f'{os.fspath(checkpoint)} lacks {len(lacking)} tensors of the backbone, or has '
                f'them in another shape, the first of them {lacking[0]}: is it of another config?'
            )
    return model.eval()


def find_backbone(model: nn.Module) -> LiSA:
    """Return the LiSA backbone in a model.

    Raises:
        ValueError: If it has none.
    """
    for module in model.modules():
        if isinstance(module, LiSA):
            return module
    raise ValueError(f'{type(model).__name__} has no backbone of type lisa_mm.LiSA')


def find_images(folder: str | os.PathLike) -> list[Path]:
    """List the images in a folder and below it, sorted.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has none.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f'there is no folder {os.fspath(folder)}')
    images = sorted(p for p in Path(folder).rglob('*') if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise ValueError(f'{os.fspath(folder)} holds no images ({", ".join(IMAGE_SUFFIXES)})')
    return images


def read_image(path: str | os.PathLike, size: int | tuple[int, int] | None = None) -> np.ndarray:
    """Read an image for a look into a model.

    Args:
        path: The image.
        size: What its shorter side becomes, in pixels, or both, (H, W).
            Defaults to None: what they are. They are rounded to multiples of
            32.

    Returns:
        np.ndarray: (H, W, 3), RGB, from 0 to 255.

    Raises:
        ValueError: If it is no image that can be read.
    """
    try:
        image = ImageOps.exif_transpose(Image.open(path)).convert('RGB')
    except (OSError, SyntaxError) as error:  # Pillow raises the latter, too
        raise ValueError(f'{os.fspath(path)} cannot be read as an image: {error}') from error
    if isinstance(size, tuple):
        sides = size[::-1]
    else:
        scale = 1 if size is None else size / min(image.size)
        sides = [side * scale for side in image.size]
    sides = [max(DIVISOR, round(side / DIVISOR) * DIVISOR) for side in sides]
    return np.asarray(image.resize(sides, Image.Resampling.BILINEAR))


def preprocess(model: nn.Module, image: np.ndarray) -> Tensor:
    """Normalise an image as the data preprocessor of a model does, (1, 3, H, W)."""
    channels = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))  # BGR
    data = model.data_preprocessor(dict(inputs=[channels], data_samples=None), training=False)
    return data['inputs']


def of_one_size(images: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield batches of images (B, C, H, W) as long as they are of one size.

    Raises:
        ValueError: If they are not.
    """
    size = None
    for batch in images:
        if size not in (None, batch.shape[-2:]):
            raise ValueError(
                f'the images must be of one size, got {tuple(size)} and {tuple(batch.shape[-2:])}'
            )
        size = batch.shape[-2:]
        yield batch


def attentions_of(backbone: LiSA) -> dict[str, nn.Module]:
    """Name the attention modules of a backbone, such as ``'stages.2.0'``, in their order."""
    return {
        f'stages.{i}.{j}': block.attention
        for i, stage in enumerate(backbone.stages)
        for j, block in enumerate(stage)
    }


def with_kernels(attentions: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return those attention modules that have kernels over positions.

    Raises:
        ValueError: If none has.
    """
    found = {name: module for name, module in attentions.items() if hasattr(module, 'kernels')}
    if not found:
        kinds = sorted({type(module).__name__ for module in attentions.values()})
        raise ValueError(f'no attention of the backbone has kernels over positions: {kinds}')
    return found


def kernels_of(attention: nn.Module, x: Tensor, positions: Tensor) -> Tensor:
    """Return the kernels of an attention module, (B, G, K, H, W).

    Args:
        attention: The module, with ``kernels``.
        x: What it is given, (B, C, H, W).
        positions: Rows and columns of the queries, (K, 2).

    Raises:
        ValueError: If its kernels are of another shape.
    """
    kernels = attention.kernels(x, positions)
    batch, _, *grid = x.shape
    if kernels.dim() != 5 or list(kernels.shape) != [batch, len(kernels[0]), len(positions), *grid]:
        raise ValueError(
            f'{type(attention).__name__}.kernels must give (B, heads, K, H, W), here '
            f'({batch}, heads, {len(positions)}, {grid[0]}, {grid[1]}), got {tuple(kernels.shape)}'
        )
    return kernels


@torch.no_grad()
def record(
    backbone: LiSA, images: Tensor, modules: Mapping[str, nn.Module]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Run a backbone and keep what goes into some of its modules and what comes out.

    Args:
        backbone: The backbone.
        images: (B, C, H, W).
        modules: The modules, by name, each with one map as its argument.

    Returns:
        dict[str, tuple[Tensor, Tensor]]: Input and output by name.
    """
    found = {}
    handles = [
        module.register_forward_hook(
            lambda _, args, out, name=name: found.update({name: (args[0], out)})
        )
        for name, module in modules.items()
    ]
    try:
        backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def spread_positions(grid: tuple[int, int], number: int) -> Tensor:
    """Spread positions evenly over a grid: at most so many, (K, 2), rows and columns."""
    rows, columns = _counts(grid, number)
    axes = (
        ((torch.arange(count) + 0.5) * size / count).long()
        for count, size in zip((rows, columns), grid)
    )
    return torch.cartesian_prod(*axes)


def _counts(grid: tuple[int, int], number: int) -> tuple[int, int]:
    """Share out a number of positions over rows and columns of about the same distance."""
    rows = min(grid[0], max(1, round((number * grid[0] / grid[1]) ** 0.5)))
    columns = min(grid[1], max(1, number // rows))
    return rows, columns
