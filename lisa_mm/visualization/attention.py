"""Pictures of what the attention of a backbone has learned, and of what it does to an image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lisa_mm.analysis.inspection import attentions_of, kernels_of, record, with_kernels
from lisa_mm.analysis.receptive_field import half_mass_side
from lisa_mm.models import LiSA, StructureAwareAttention

from .panels import Panel, draw_panels


def draw_tables(backbone: LiSA, block: int = -1, num_heads: int = 2) -> Figure:
    """Draw the pattern encoders E and decoders D of one block per stage.

    Args:
        backbone: A backbone with structure-aware attention.
        block: Which block of the stages. Defaults to -1, the last.
        num_heads: Heads to draw. Defaults to 2.

    Returns:
        Figure: A row for each stage, the offset 0 in the middle of a table; red
        is positive, blue negative.

    Raises:
        ValueError: If no stage has structure-aware attention, or not so many
            blocks.
    """
    rows = []
    for name, attention in _structure_aware(_blocks(backbone, block)).items():
        tables = {'E': attention.rpe_encoder, 'D': attention.rpe_decoder}
        rows.append(
            [
                Panel(f'{name}, head {g}\n{letter}{p + 1}', _array(table[g, p]))
                for g in range(min(num_heads, attention.num_heads))
                for letter, table in tables.items()
                for p in range(attention.num_patterns)
            ]
        )
    return draw_panels(rows, 'Relative position embeddings: encoders E and decoders D')


def draw_patterns(
    backbone: LiSA, image: np.ndarray, inputs: Tensor, block: int = -1, num_heads: int = 2
) -> Figure:
    """Draw the structural patterns s of one block per stage beside the image.

    Args:
        backbone: A backbone with structure-aware attention.
        image: (H, W, 3), RGB.
        inputs: The same image preprocessed, (1, C, H, W).
        block: Which block of the stages. Defaults to -1, the last.
        num_heads: Heads to draw. Defaults to 2.

    Returns:
        Figure: A row for each stage; red is positive, blue negative.

    Raises:
        ValueError: As :func:`draw_tables`.
    """
    modules = _structure_aware(_blocks(backbone, block))
    rows = []
    for name, (x, _) in record(backbone, inputs, modules).items():
        patterns = _evaluate(modules[name].patterns, x)[0]
        maps = [
            Panel(f'{name}, head {g}\ns{p + 1}', _array(patterns[g, p]), image.shape[1::-1], True)
            for g in range(min(num_heads, patterns.shape[0]))
            for p in range(patterns.shape[1])
        ]
        rows.append([Panel('image', image), *maps])
    return draw_panels(rows, 'Structural patterns')


def draw_kernels(
    backbone: LiSA,
    image: np.ndarray,
    inputs: Tensor,
    pixel: tuple[int, int] | None = None,
    block: int = -1,
    num_heads: int = 2,
) -> Figure:
    """Draw the kernels with which a position sees the image, in one block per stage.

    For structure-aware attention, beside the plain attention kernel that the
    patterns are made from.

    Args:
        backbone: A backbone whose attention has kernels.
        image: (H, W, 3), RGB.
        inputs: The same image preprocessed, (1, C, H, W).
        pixel: (x, y) in the image. Defaults to None: the middle.
        block: Which block of the stages. Defaults to -1, the last.
        num_heads: Heads to draw. Defaults to 2.

    Returns:
        Figure: A row for each stage.

    Raises:
        ValueError: If no attention has kernels, a stage has not so many blocks,
            or the pixel is not on the image.
    """
    height, width = image.shape[:2]
    pixel = pixel or (width // 2, height // 2)
    if not (0 <= pixel[0] < width and 0 <= pixel[1] < height):
        raise ValueError(f'pixel must be on the image of {width} x {height} pixels, got {pixel}')
    modules = with_kernels(_blocks(backbone, block))
    rows = []
    for name, (x, _) in record(backbone, inputs, modules).items():
        stride = height / x.shape[2], width / x.shape[3]
        row, column = int(pixel[1] / stride[0]), int(pixel[0] / stride[1])
        position = torch.tensor([[row, column]], device=x.device)
        mark = (column + 0.5) * stride[1], (row + 0.5) * stride[0]
        attention = modules[name]
        signed = isinstance(attention, StructureAwareAttention) or None
        kernels = partial(kernels_of, attention)
        kinds = {'kernel': kernels}
        if signed:
            kinds = {'plain kernel': attention.plain_kernels, 'structure-aware': kernels}
        found = {kind: _evaluate(make, x, position)[0, :, 0] for kind, make in kinds.items()}
        panels = [
            Panel(f'{name}, head {g}\n{kind}', _array(shown[g]), (width, height), signed, mark)
            for g in range(min(num_heads, len(next(iter(found.values())))))
            for kind, shown in found.items()
        ]
        rows.append([Panel(f'image\npixel {pixel}', image, mark=pixel), *panels])
    return draw_panels(rows, 'Kernels of the marked position')


def draw_receptive_fields(fields: Sequence[Tensor]) -> Figure:
    """Draw effective receptive fields.

    Args:
        fields: (H, W) each, by
            :func:`lisa_mm.analysis.effective_receptive_field`.

    Returns:
        Figure: A panel for each; the roots of the values, so that small ones
        are seen.
    """
    panels = [
        Panel(f'stage {i}: half of it\nin {half_mass_side(field)} x {half_mass_side(field)} px',
              np.sqrt(_array(field)))
        for i, field in enumerate(fields)
    ]  # fmt: skip
    return draw_panels([panels], 'Effective receptive field (square root)', side=2.6)


def draw_features(backbone: LiSA, image: np.ndarray, inputs: Tensor, block: int = -1) -> Figure:
    """Draw the features that go into the attention of one block per stage, and what comes out.

    Of both the first principal component over the channels, on its own.

    Args:
        backbone: The backbone.
        image: (H, W, 3), RGB.
        inputs: The same image preprocessed, (1, C, H, W).
        block: Which block of the stages. Defaults to -1, the last.

    Returns:
        Figure: A row for each stage.

    Raises:
        ValueError: If a stage has not so many blocks.
    """
    rows = []
    for name, maps in record(backbone, inputs, _blocks(backbone, block)).items():
        titles = f'{name}\nbefore the attention', f'{name}\nafter it'
        panels = [
            Panel(title, _array(_first_component(x[0])), image.shape[1::-1])
            for title, x in zip(titles, maps)
        ]
        rows.append([Panel('image', image), *panels])
    return draw_panels(rows, 'Features: first principal component of the channels', side=2.4)


def _blocks(backbone: LiSA, block: int) -> dict[str, torch.nn.Module]:
    """Return the attention of one block per stage."""
    modules = attentions_of(backbone)
    chosen = {}
    for i, stage in enumerate(backbone.stages):
        if not -len(stage) <= block < len(stage):
            raise ValueError(
                f'block must be from {-len(stage)} to {len(stage) - 1} in stage {i}, got {block}'
            )
        name = f'stages.{i}.{block % len(stage)}'
        chosen[name] = modules[name]
    return chosen


def _structure_aware(modules: dict[str, torch.nn.Module]) -> dict[str, StructureAwareAttention]:
    found = {
        name: module
        for name, module in modules.items()
        if isinstance(module, StructureAwareAttention)
    }
    if not found:
        kinds = sorted({type(module).__name__ for module in modules.values()})
        raise ValueError(f'no stage of the backbone has structure-aware attention: {kinds}')
    return found


@torch.no_grad()
def _evaluate(function, *args: Tensor) -> Tensor:
    return function(*args)


def _first_component(x: Tensor) -> Tensor:
    """Return the first principal component (H, W) of (C, H, W), its largest value positive."""
    features = x.flatten(1).float()
    features = features - features.mean(1, keepdim=True)
    vectors = torch.linalg.svd(features, full_matrices=False).Vh
    component = vectors[0].view(x.shape[1:])
    return component * component.flatten()[component.abs().argmax()].sign()


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
