"""Reading annotation files in COCO's format."""

from __future__ import annotations

import json
import os


def coco_classes(*ann_files: str | os.PathLike) -> tuple[str, ...]:
    """Read the class names of annotation files, in their own order.

    That is the order in which MMDetection numbers them, in each file for
    itself. For configs of one's own data: the classes then need not be written
    down a second time.

    Args:
        *ann_files: JSON files in COCO's format.

    Returns:
        tuple[str, ...]: The names of their categories.

    Raises:
        FileNotFoundError: If one does not exist.
        ValueError: If one is not in COCO's format, or has other categories
            than the first, or the same in another order.

    Example:
        >>> import tempfile
        >>> from lisa_mm.datasets import coco_classes, generate_shapes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = generate_shapes(f'{folder}/shapes', num_train=4, num_val=4)
        ...     coco_classes(root / 'annotations' / 'instances_train.json')
        ('ellipse', 'rectangle', 'triangle', 'star', 'cross')
    """
    first, *others = ann_files
    classes = _read_classes(first)
    for other in others:
        found = _read_classes(other)
        if found != classes:
            raise ValueError(
                f'{os.fspath(first)} and {os.fspath(other)} must have the same categories in the '
                f'same order, which is how classes are numbered; got {classes} and {found}'
            )
    return classes


def _read_classes(ann_file: str | os.PathLike) -> tuple[str, ...]:
    if not os.path.isfile(ann_file):
        raise FileNotFoundError(
            f'there is no annotation file {os.fspath(ann_file)}; name the folder of the data set '
            'with --data-root, or with the environment variable that its config reads'
        )
    with open(ann_file, encoding='utf-8') as file:
        try:
            return tuple(category['name'] for category in json.load(file)['categories'])
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"{os.fspath(ann_file)} is not in COCO's format: expected a list 'categories' "
                f"with a 'name' each ({type(error).__name__}: {error})"
            ) from error
