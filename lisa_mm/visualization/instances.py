"""Predicted instances beside the annotated ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from pycocotools import mask as mask_api
from pycocotools.coco import COCO

from .style import COLORS


def draw_instances(
    ann_file: str | os.PathLike,
    image_dir: str | os.PathLike,
    predictions: Sequence[dict[str, Any]],
    classes: Sequence[str] | None = None,
    num_images: int = 6,
    score_thr: float = 0.5,
) -> Figure:
    """Draw annotated and predicted instances side by side, for a few images.

    The images are spread evenly over those that have predictions and objects.

    Args:
        ann_file: Annotations in COCO's format.
        image_dir: Folder of the images.
        predictions: One dict per image, as MMDetection's ``DumpDetResults``
            writes them: ``img_id``, and ``pred_instances`` with ``scores``,
            ``labels``, ``bboxes`` and, for masks, ``masks`` in COCO's run
            lengths.
        classes: Names of the classes that the detector knows. Defaults to None:
            all that are annotated.
        num_images: Number of images to draw. Defaults to 6.
        score_thr: Least score of a prediction that is drawn. Defaults to 0.5.

    Returns:
        Figure: Two columns of image pairs; save it with ``savefig``.

    Raises:
        ValueError: If ``num_images`` is not positive, or no image has both
            predictions and objects.
    """
    if num_images < 1:
        raise ValueError(f'num_images must be positive, got {num_images}')
    coco = COCO(os.fspath(ann_file))
    categories = [
        category
        for category in coco.dataset['categories']
        if classes is None or category['name'] in classes
    ]
    labels = {category['id']: label for label, category in enumerate(categories)}
    by_image = {prediction['img_id']: prediction['pred_instances'] for prediction in predictions}
    image_ids = sorted(i for i in by_image if coco.getAnnIds(imgIds=[i], iscrowd=False))
    if not image_ids:
        raise ValueError(f'no image of {os.fspath(ann_file)} has both predictions and objects')
    picks = np.linspace(0, len(image_ids) - 1, min(num_images, len(image_ids))).round().astype(int)
    rows = -(-len(picks) // 2)
    figure = Figure(figsize=(13, 3.4 * rows + 0.5), layout='constrained')
    axes = figure.subplots(rows, 4, squeeze=False)
    for axis in axes.flat:
        axis.axis('off')
    drawn = set()
    for pick, (truth_axis, found_axis) in zip(picks, axes.reshape(-1, 2)):
        image_id = image_ids[pick]
        image = Image.open(os.path.join(image_dir, coco.imgs[image_id]['file_name'])).convert('RGB')
        truth = [
            (labels[ann['category_id']], coco.annToMask(ann), '')
            for ann in coco.loadAnns(coco.getAnnIds(imgIds=[image_id], iscrowd=False))
            if ann['category_id'] in labels
        ]
        _draw(truth_axis, image, truth, f'annotated: {len(truth)}')
        instances = by_image[image_id]
        found = [
            (int(label), _mask_of(instances, i, image.size), f'{float(score):.2f}')
            for i, (label, score) in enumerate(zip(instances['labels'], instances['scores']))
            if score >= score_thr
        ]
        _draw(found_axis, image, found, f'predicted: {len(found)}')
        drawn.update(label for label, _, _ in (*truth, *found))
    handles = [
        Line2D([], [], color=_color(label), lw=6, label=categories[label]['name'])
        for label in sorted(drawn)
    ]
    figure.legend(handles=handles, loc='outside lower center', ncols=min(len(handles), 10) or 1)
    return figure


def _mask_of(instances: dict[str, Any], index: int, size: tuple[int, int]) -> np.ndarray:
    """Return the mask of a predicted instance; of a detector without masks, its box."""
    if 'masks' in instances:
        return mask_api.decode(instances['masks'][index])
    mask = np.zeros(size[::-1], np.uint8)
    left, top, right, bottom = (max(0, round(float(c))) for c in instances['bboxes'][index])
    mask[top:bottom, left:right] = 1
    return mask


def _draw(
    axis: Axes, image: Image.Image, instances: list[tuple[int, np.ndarray, str]], title: str
) -> None:
    axis.set_title(title, fontsize=10)
    axis.imshow(image)
    for label, mask, text in instances:
        color = _color(label)
        # a border one pixel wide, so that outlines of masks at the border close
        padded = np.pad(mask, 1)
        extent = (-1.5, mask.shape[1] + 0.5, -1.5, mask.shape[0] + 0.5)
        for style, widths in (('white', 2.6), (color, 1.4)):
            axis.contour(padded, [0.5], colors=[style], linewidths=widths, extent=extent)
        overlay = np.zeros((*mask.shape, 4))
        overlay[mask > 0] = (*_rgb(color), 0.35)
        axis.imshow(overlay)
        if text:
            rows, columns = np.nonzero(mask)
            if len(rows):
                axis.text(
                    columns.mean(), rows.mean(), text, fontsize=6, ha='center', va='center',
                    bbox=dict(facecolor='white', alpha=0.7, pad=0.5, linewidth=0),
                )  # fmt: skip


def _color(label: int) -> str:
    return COLORS[label % len(COLORS)]


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
