"""Shapes: a small instance segmentation data set in COCO's format, drawn instead of downloaded.

Every image shows a few partly hidden shapes of five classes on a textured background. Most objects
of a class have its colour, but not all: colour hints at the class, and only the shape decides.
"""

from __future__ import annotations

import json
import numbers
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

SHAPE_CLASSES: tuple[str, ...] = ('ellipse', 'rectangle', 'triangle', 'star', 'cross')

# Raise it whenever the same settings give other files than before.
_VERSION = '1'
_SPLITS = ('train', 'val')
# Lengths are in pixels of an image whose shorter side is this long, and scale with that side.
_REFERENCE_SIDE = 128
# Diameter range of small, medium and large objects, and how often each is drawn.
_DIAMETERS = ((18, 28), (28, 44), (44, 70))
_DIAMETER_ODDS = (0.35, 0.4, 0.25)
# Shapes stand upright, as most things in photographs do, but for a tilt of so many radians.
_MAX_TILT = np.pi / 9
_MIN_DIAMETER = 12  # in true pixels: below it the classes look alike
_MIN_AREA = 60  # of the visible part, in true pixels
_MIN_VISIBLE = 0.5  # share of the object that neither the border nor other objects hide
_MIN_CONTRAST = 80  # Euclidean distance in RGB between an object and what it covers
# The usual colour of each class (RGB), its spread, and the share of objects that have it. The rest
# may have any: that much of the recognition is left to the shape.
_COLORS = ((200, 60, 60), (60, 160, 60), (70, 90, 210), (210, 180, 50), (160, 70, 190))
_COLOR_SPREAD = 25
_COLOR_ODDS = 0.7
_MAX_TRIES = 20
# One image in `_PERIOD` holds a crowd and one holds no objects, at these places of the period.
_PERIOD, _CROWD_AT, _EMPTY_AT = 20, 2, 3
_MIN_IMAGES = max(_CROWD_AT, _EMPTY_AT) + 1
_MIN_SIDE = 64
_SUPERSAMPLING = 4


@dataclass
class _Object:
    """An object of an image: what is visible of it, and how large (px) it is when nothing hides it.

    `polygons` outlines `mask`; it is empty for a crowd, which is stored as run lengths.
    """

    label: int
    mask: np.ndarray
    full_area: float
    polygons: list[list[float]]
    is_crowd: bool = False


def generate_shapes(
    root: str | os.PathLike,
    num_train: int = 400,
    num_val: int = 100,
    image_size: tuple[int, int] = (128, 128),
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Path:
    """Write the shapes data set, unless it is there already.

    The folder then holds `train/*.png`, `val/*.png`, `annotations/instances_train.json` and
    `annotations/instances_val.json`, in COCO's instance format. Objects are annotated by the
    polygons of their visible part. In every 20 images one also has a crowd (`iscrowd=1`, as
    uncompressed run lengths) and one has no objects.

    The same settings give the same bytes under the same versions of NumPy and Pillow. An image
    depends only on its split, its index, `image_size` and `seed`: a larger set begins with the
    images of a smaller one. The set appears under `root` only once it is whole: it is written to
    a hidden folder beside `root`, `.NAME.*.partial`, which is renamed at the end. A process killed
    outright leaves that folder behind; it may be removed.

    Args:
        root (str | os.PathLike): Folder of the data set. It must be absent, empty, or hold the
            same set.
        num_train (int): Number of training images, 4 or more. Defaults to 400.
        num_val (int): Number of validation images, 4 or more. Defaults to 100.
        image_size (tuple[int, int]): Height and width of the images in pixels, each 64 or more.
            The objects grow with the shorter side. Defaults to (128, 128).
        seed (int): Seed of all random choices, from 0 to 2**32 - 1. Defaults to 0.
        progress (Callable[[int, int], Any], optional): Called after each image with the number
            of images done and the total. Defaults to None.

    Returns:
        Path: `root`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range.
        FileExistsError: If `root` holds anything but this very set.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lisa_mm.datasets import generate_shapes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = generate_shapes(Path(folder) / 'shapes', num_train=8, num_val=4)
        ...     sorted(path.name for path in root.iterdir())
        ['annotations', 'train', 'val']
    """
    settings = {
        'num_train': _check_int('num_train', num_train, _MIN_IMAGES),
        'num_val': _check_int('num_val', num_val, _MIN_IMAGES),
        'image_size': _check_image_size(image_size),
        'seed': _check_int('seed', seed, 0, 2**32 - 1),
    }
    root = Path(root)
    if _is_complete(root, settings):
        return root

    target = root.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f'.{target.name}.{uuid.uuid4().hex}.partial')
    try:
        (partial / 'annotations').mkdir(parents=True)
        for split in _SPLITS:
            _write_split(partial, split, settings, progress)
        try:
            if target.is_dir():
                target.rmdir()  # Windows renames to no existing folder, not even an empty one.
            partial.rename(target)
        except OSError:
            # Another process, such as one more rank of a launch, may have been first.
            if not _is_complete(root, settings):
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def _check_int(name: str, value: Any, low: int, high: int | None = None) -> int:
    takes = f'an integer of {low} or more' if high is None else f'an integer from {low} to {high}'
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f'{name} takes {takes}, but got {value!r}')
    if value < low or (high is not None and value > high):
        raise ValueError(f'{name} takes {takes}, but got {value!r}')
    return int(value)


def _check_image_size(value: Any) -> list[int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f'image_size takes two integers (height, width), but got {value!r}')
    return [_check_int(f'image_size[{i}]', side, _MIN_SIDE) for i, side in enumerate(value)]


def _is_complete(root: Path, settings: dict[str, Any]) -> bool:
    """Tell whether `root` holds the set of these settings; raise if it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    wanted = {**settings, 'version': _VERSION}
    try:
        made, missing = [], []
        for split in _SPLITS:
            data = json.loads(_annotation_file(root, split).read_text(encoding='utf-8'))
            made.append({**data['info']['settings'], 'version': data['info']['version']})
            names = [image['file_name'] for image in data['images']]
            missing += [f'{split}/{n}' for n in names if not (root / split / n).is_file()]
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError):
        found = 'something other than a shapes set' if root.is_dir() else 'a file'
        remedy = 'Choose another folder.'
    else:
        others = [other for other in made if other != wanted]
        if not others and not missing:
            return True
        found = (
            f'a shapes set with {others[0]}'
            if others
            else f'this set without {len(missing)} of its images, such as {missing[0]}'
        )
        remedy = 'Choose another folder, or remove this one.'
    raise FileExistsError(
        f'cannot write the shapes set with {wanted} to {root}: found {found} there. {remedy}'
    )


def _annotation_file(root: Path, split: str) -> Path:
    return root / 'annotations' / f'instances_{split}.json'


def _write_split(
    root: Path, split: str, settings: dict[str, Any], progress: Callable[[int, int], Any] | None
) -> None:
    height, width = settings['image_size']
    count = settings[f'num_{split}']
    split_index = _SPLITS.index(split)
    done_before = settings['num_train'] if split == 'val' else 0
    images, annotations = [], []
    (root / split).mkdir()
    for index in range(count):
        # A generator per image, so that no image depends on how many others there are.
        rng = np.random.default_rng([settings['seed'], split_index, index])
        pixels, objects = _draw_image(rng, index, height, width)
        image_id = index + 1
        file_name = f'{image_id:06d}.png'
        Image.fromarray(pixels).save(root / split / file_name)
        images.append({'id': image_id, 'file_name': file_name, 'height': height, 'width': width})
        for obj in objects:
            # From 1: COCOeval takes a match with annotation 0 for no match.
            annotations.append(_annotation(obj, len(annotations) + 1, image_id))
        if progress is not None:
            progress(done_before + index + 1, settings['num_train'] + settings['num_val'])
    data = {
        'info': {
            'description': f'Shapes, {split} split',
            'version': _VERSION,
            'settings': settings,
        },
        'licenses': [],
        'images': images,
        'annotations': annotations,
        'categories': [
            {'id': label + 1, 'name': name, 'supercategory': 'shape'}
            for label, name in enumerate(SHAPE_CLASSES)
        ],
    }
    _annotation_file(root, split).write_text(json.dumps(data), encoding='utf-8')


def _annotation(obj: _Object, annotation_id: int, image_id: int) -> dict[str, Any]:
    rows, cols = np.nonzero(obj.mask)
    left, top = float(cols.min()), float(rows.min())
    return {
        'id': annotation_id,
        'image_id': image_id,
        'category_id': obj.label + 1,
        'bbox': [left, top, float(cols.max() + 1 - left), float(rows.max() + 1 - top)],
        'area': float(obj.mask.sum()),
        'iscrowd': int(obj.is_crowd),
        'segmentation': _run_lengths(obj.mask) if obj.is_crowd else obj.polygons,
    }


def _run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """Encode as COCO's uncompressed run lengths: by columns, the first run is background."""
    pixels = np.concatenate([[False], mask.ravel(order='F')])
    bounds = np.flatnonzero(pixels[1:] != pixels[:-1])
    counts = np.diff(np.concatenate([[0], bounds, [mask.size]]))
    return {'counts': counts.tolist(), 'size': list(mask.shape)}


def _trace_polygons(mask: np.ndarray) -> list[list[float]] | None:
    """Outline the 4-connected regions of a mask along the borders of its pixels.

    Args:
        mask (np.ndarray): Boolean mask of shape (H, W).

    Returns:
        list[list[float]] | None: A polygon [x0, y0, x1, y1, ...] per region, which COCO's tools
        fill to exactly that region. None if a region has a hole, which polygons cannot express.
    """
    # The four borders of a pixel, clockwise from its upper one: the step along the border, and
    # the corner of the pixel it begins at. The neighbour across is on the left of the step.
    steps = ((1, 0), (0, 1), (-1, 0), (0, -1))
    corners = ((0, 0), (1, 0), (1, 1), (0, 1))
    height, width = mask.shape
    padded = np.pad(mask, 1)
    borders = {}
    for direction, (dx, dy) in enumerate(steps):
        across = padded[1 - dx : 1 - dx + height, 1 + dy : 1 + dy + width]
        across_x, across_y = corners[direction]
        for y, x in np.argwhere(mask & ~across).tolist():
            borders[x + across_x, y + across_y, direction] = None

    polygons = []
    while borders:
        # In scanning order this is the first upper border of its outline, so it begins a corner.
        x, y, direction = next(iter(borders))
        previous = None
        polygon = []
        while (x, y, direction) in borders:
            del borders[x, y, direction]
            if direction != previous:
                polygon += [float(x), float(y)]
            previous = direction
            x, y = x + steps[direction][0], y + steps[direction][1]
            # Where two pixels touch at a corner only, the right turn keeps to the same pixel.
            for turn in (1, 0, 3):
                direction = (previous + turn) % 4
                if (x, y, direction) in borders:
                    break
        if _signed_area(np.reshape(polygon, (-1, 2))) < 0:
            return None
        polygons.append(polygon)
    return polygons


def _signed_area(points: np.ndarray) -> float:
    """Measure a polygon of shape (N, 2), positive when its (x, y) run clockwise on the screen."""
    x, y = points.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def _draw_image(
    rng: np.random.Generator, index: int, height: int, width: int
) -> tuple[np.ndarray, list[_Object]]:
    """Draw the image of an index: RGB pixels of shape (H, W, 3), and its objects."""
    scale = min(height, width) / _REFERENCE_SIDE
    image = _draw_background(rng, height, width, scale)
    objects: list[_Object] = []
    if index % _PERIOD == _CROWD_AT:
        image, crowd = _draw_crowd(rng, image, scale)
        objects = [crowd]
    num_objects = 0 if index % _PERIOD == _EMPTY_AT else rng.integers(2, 7)
    for _ in range(num_objects):
        label = int(rng.integers(len(SHAPE_CLASSES)))
        for _ in range(_MAX_TRIES):
            radius = scale * rng.uniform(*_DIAMETERS[rng.choice(3, p=_DIAMETER_ODDS)]) / 2
            center = rng.uniform((0, 0), (width, height))
            points = _outline(rng, label, center, max(radius, _MIN_DIAMETER / 2))
            alpha = _rasterize(points, height, width)
            stacked = _put_on_top(objects, label, alpha >= 0.5, _signed_area(points))
            if stacked is not None:
                objects = stacked
                image = _paint(rng, image, label, alpha, scale)
                break
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), objects


def _put_on_top(
    objects: list[_Object], label: int, mask: np.ndarray, full_area: float
) -> list[_Object] | None:
    """Add an object that hides what it covers.

    Returns:
        list[_Object] | None: The objects with what is then visible of them. None if that is too
        little of any of them, or has a hole.
    """
    new = _Object(label, mask, full_area, [])
    stacked = []
    for obj in [*objects, new]:
        visible = mask if obj is new else obj.mask & ~mask
        area = visible.sum()
        if area < max(_MIN_AREA, _MIN_VISIBLE * obj.full_area):
            return None
        polygons = obj.polygons
        if not obj.is_crowd and (not polygons or area < obj.mask.sum()):
            polygons = _trace_polygons(visible)
            if polygons is None:
                return None
        stacked.append(_Object(obj.label, visible, obj.full_area, polygons, obj.is_crowd))
    return stacked


def _draw_crowd(
    rng: np.random.Generator, image: np.ndarray, scale: float
) -> tuple[np.ndarray, _Object]:
    """Draw a cluster of tiny shapes of one class, annotated together."""
    height, width = image.shape[:2]
    label = int(rng.integers(len(SHAPE_CLASSES)))
    middle = rng.uniform((0.25 * width, 0.25 * height), (0.75 * width, 0.75 * height))
    mask = np.zeros((height, width), bool)
    for _ in range(rng.integers(14, 25)):
        center = middle + scale * rng.uniform(-20, 20, 2)
        points = _outline(rng, label, center, scale * rng.uniform(4, 6))
        alpha = _rasterize(points, height, width)
        image = _paint(rng, image, label, alpha, scale)
        mask |= alpha >= 0.5
    return image, _Object(label, mask, float(mask.sum()), [], is_crowd=True)


def _outline(rng: np.random.Generator, label: int, center: np.ndarray, radius: float) -> np.ndarray:
    """Draw the corners (x, y) of a turned shape in a circle (px), of shape (N, 2), clockwise."""
    name = SHAPE_CLASSES[label]
    if name == 'ellipse':
        angles = np.arange(48) * np.pi / 24
        points = np.stack([np.cos(angles), rng.uniform(0.6, 1) * np.sin(angles)], 1)
    elif name == 'rectangle':
        half = rng.uniform(0.45, 1)
        points = np.array([[-1, -half], [1, -half], [1, half], [-1, half]]) / np.hypot(1, half)
    elif name == 'triangle':
        angles = np.arange(3) * 2 * np.pi / 3 + rng.uniform(-0.25, 0.25, 3)
        points = np.stack([np.cos(angles), np.sin(angles)], 1)
    elif name == 'star':
        angles = np.arange(10) * np.pi / 5
        reach = np.where(np.arange(10) % 2, rng.uniform(0.38, 0.5), 1)
        points = reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    else:
        arm = rng.uniform(0.25, 0.35)
        quarter = np.array([[1, -arm], [1, arm], [arm, arm]]) / np.hypot(1, arm)
        turn = np.array([[0, 1], [-1, 0]])
        points = np.concatenate([quarter @ np.linalg.matrix_power(turn, i) for i in range(4)])
    angle = rng.uniform(-_MAX_TILT, _MAX_TILT)
    cos, sin = np.cos(angle), np.sin(angle)
    return center + radius * points @ np.array([[cos, sin], [-sin, cos]])


def _rasterize(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Measure the covered share of each pixel, of shape (H, W)."""
    canvas = Image.new('L', (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    # Pillow counts from the centre of the first pixel, the outline from its corner.
    corners = np.rint(points * _SUPERSAMPLING - 0.5)
    ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
    return np.asarray(canvas.reduce(_SUPERSAMPLING)) / 255


def _paint(
    rng: np.random.Generator, image: np.ndarray, label: int, alpha: np.ndarray, scale: float
) -> np.ndarray:
    """Fill a shape with a random texture that stands out from what it covers."""
    covered = image[alpha > 0].mean(0)
    color = covered
    while np.linalg.norm(color - covered) < _MIN_CONTRAST:
        color = rng.uniform(0, 255, 3)
        if rng.random() < _COLOR_ODDS:
            color = rng.normal(_COLORS[label], _COLOR_SPREAD)
    filling = color + _texture(rng, *alpha.shape, scale) * rng.uniform(-50, 50, 3)
    return image + alpha[..., None] * (filling - image)


def _draw_background(rng: np.random.Generator, height: int, width: int, scale: float) -> np.ndarray:
    """Mix textures, and strew them with thin lines and specks that belong to no class."""
    image = np.full((height, width, 3), rng.uniform(50, 205, 3))
    for _ in range(3):
        image += _texture(rng, height, width, scale) * rng.uniform(-35, 35, 3)
    canvas = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(3, 9)):
        ends = rng.uniform((0, 0), (width, height), (2, 2))
        color = tuple(rng.integers(0, 256, 3).tolist())
        draw.line(ends.ravel().tolist(), fill=color, width=int(rng.integers(1, 3)))
    for _ in range(rng.integers(3, 9)):
        x, y = rng.uniform((0, 0), (width, height))
        rx, ry = scale * rng.uniform(1, 3, 2)
        color = tuple(rng.integers(0, 256, 3).tolist())
        draw.ellipse([x - rx, y - ry, x + rx, y + ry], fill=color)
    return np.asarray(canvas, dtype=np.float64)


def _texture(rng: np.random.Generator, height: int, width: int, scale: float) -> np.ndarray:
    """Draw values of about -1 to 1, of shape (H, W, 1)."""
    kind = rng.choice(('flat', 'gradient', 'stripes', 'noise'))
    values = np.zeros((height, width))
    if kind in ('gradient', 'stripes'):
        angle = rng.uniform(0, 2 * np.pi)
        values = np.cos(angle) * np.arange(width) + np.sin(angle) * np.arange(height)[:, None]
        if kind == 'gradient':
            values = 2 * (values - values.min()) / np.ptp(values) - 1
        else:
            values = np.sin(2 * np.pi * (values / scale / rng.uniform(4, 14) + rng.uniform()))
    elif kind == 'noise':
        # Octaves of smooth noise; the cells are in pixels of the reference size.
        for cell, weight in ((32, 0.5), (16, 0.3), (8, 0.25), (4, 0.2)):
            cells = [int(np.ceil(side / (cell * scale))) for side in (height, width)]
            octave = Image.fromarray(rng.uniform(-1, 1, cells).astype(np.float32))
            values += weight * np.asarray(octave.resize((width, height), Image.Resampling.BICUBIC))
    return values[..., None]
