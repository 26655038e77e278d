"""Reading folders of images, one per class."""

from __future__ import annotations

import os


def folder_classes(folder: str | os.PathLike) -> tuple[str, ...]:
    """Read the class names of a folder that holds a folder of images per class.

    In the order in which MMPretrain's ``CustomDataset`` numbers them. For
    configs of one's own data: the classes then need not be counted by hand.

    Args:
        folder: The folder, such as ``data/custom/train``.

    Returns:
        tuple[str, ...]: The names of the folders in it, sorted.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If there is no folder in it.

    Example:
        >>> import os, tempfile
        >>> from lisa_mm.datasets import folder_classes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ('rose', 'daisy'):
        ...         os.mkdir(f'{folder}/{name}')
        ...     folder_classes(folder)
        ('daisy', 'rose')
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f'there is no folder {os.fspath(folder)}; name the folder of the data set, with the '
            'images in train/CLASS/ and val/CLASS/, with --data-root, or with the environment '
            'variable that its config reads'
        )
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not classes:
        raise ValueError(
            f'{os.fspath(folder)} must hold one folder of images per class, found none'
        )
    return tuple(classes)
