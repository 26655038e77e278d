"""Which pixels the middle of a feature map depends on."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lisa_mm.models import LiSA

from .inspection import of_one_size


def effective_receptive_field(backbone: LiSA, images: Iterable[Tensor]) -> list[Tensor]:
    """Compute the effective receptive field of every stage of a backbone.

    That is the magnitude of the gradient of the features in the middle of the
    map, summed over channels, with respect to the pixels; a share of its sum
    for each image, then the mean over the images.

    Args:
        backbone: The backbone.
        images: Preprocessed images, (B, C, H, W) each, of one size.

    Returns:
        list[Tensor]: (H, W) for each stage; sums to one.

    Raises:
        ValueError: If there are no images, or they are not of one size.

    Example:
        >>> import torch
        >>> from lisa_mm.analysis import effective_receptive_field
        >>> from lisa_mm.models import LiSA
        >>> fields = effective_receptive_field(LiSA('tiny').eval(), [torch.randn(2, 3, 64, 64)])
        >>> [tuple(field.shape) for field in fields]
        [(64, 64), (64, 64), (64, 64), (64, 64)]

    Source: `Understanding the Effective Receptive Field in Deep Convolutional
    Neural Networks <https://arxiv.org/abs/1701.04128>`_.
    """
    fields, number = [0.0] * len(backbone.stages), 0
    for batch in of_one_size(images):
        number += len(batch)
        for i, gradient in enumerate(_gradients(backbone, batch)):
            magnitude = gradient.abs().sum(1)
            fields[i] = fields[i] + (magnitude / magnitude.sum((1, 2), keepdim=True)).sum(0)
    if not number:
        raise ValueError('there are no images to compute receptive fields on')
    return [field / number for field in fields]


def half_mass_side(field: Tensor) -> int:
    """Return the side of the smallest square about its centre of mass that has half of a field.

    The position in the middle of a map of even size stands for pixels beside
    the middle of the image.

    Raises:
        ValueError: If a value of it is not finite, or all are zero.
    """
    if not field.isfinite().all():
        raise ValueError('the receptive field has values that are not finite')
    total = field.sum()
    if total == 0:
        raise ValueError('the receptive field is empty: all its values are zero')
    centre = [
        round((field.sum(1 - axis) @ torch.arange(size).to(field) / total).item())
        for axis, size in enumerate(field.shape)
    ]
    for radius in range(max(field.shape)):
        rows, columns = (slice(max(0, c - radius), c + radius + 1) for c in centre)
        if field[rows, columns].sum() >= 0.5 * total:
            break
    return 2 * radius + 1


def _gradients(backbone: LiSA, images: Tensor) -> list[Tensor]:
    """Return the gradients (B, C, H, W) of the middle of each stage's map."""
    images = images.detach().clone().requires_grad_()
    maps = []
    handles = [
        stage.register_forward_hook(lambda _, __, out: maps.append(out))
        for stage in backbone.stages
    ]
    try:
        with torch.enable_grad():
            backbone(images)
            middles = [x[:, :, x.shape[2] // 2, x.shape[3] // 2].sum() for x in maps]
            return [torch.autograd.grad(m, images, retain_graph=True)[0] for m in middles]
    finally:
        for handle in handles:
            handle.remove()
