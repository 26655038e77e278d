"""Reading annotation files in COCO's format."""

from __future__ import annotations

import json
import os


def coco_classes(ann_file: str | os.PathLike) -> tuple[str, ...]:
    """Read the class names of an annotation file, in its own order.

    That is the order in which MMDetection numbers them. For configs of one's
    own data: the classes then need not be written down a second time.

    Args:
        ann_file: JSON file in COCO's format.

    Returns:
        tuple[str, ...]: The names of its categories.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not in COCO's format.

    Example:
        >>> import tempfile
        >>> from lisa_mm.datasets import coco_classes, generate_shapes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = generate_shapes(f'{folder}/shapes', num_train=4, num_val=4)
        ...     coco_classes(root / 'annotations' / 'instances_train.json')
        ('ellipse', 'rectangle', 'triangle', 'star', 'cross')
    """
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
