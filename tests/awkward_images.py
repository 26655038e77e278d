"""Images as they come from the world: other modes, sizes, names and rotations than the usual."""

import json

import numpy as np
from PIL import Image

# name: (mode, width, height); the suffix decides the format
IMAGES = {
    'plain.jpg': ('RGB', 96, 64),
    'grey.png': ('L', 80, 64),
    'alpha.png': ('RGBA', 64, 64),
    'palette.png': ('P', 64, 48),
    'print.jpg': ('CMYK', 64, 64),
    'rotated.jpg': ('RGB', 96, 48),
    'smaller than a stride.png': ('RGB', 9, 7),
    'größer 図 ü.jpg': ('RGB', 64, 64),
}


def write_images(folder):
    """Write all of them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for name, (mode, width, height) in IMAGES.items():
        channels = len(Image.new(mode, (1, 1)).getbands())
        pixels = random.integers(256, size=(height, width, channels), dtype=np.uint8)
        image = Image.fromarray(pixels.squeeze(), 'L' if mode == 'P' else mode).convert(mode)
        exif = Image.Exif()
        exif[0x0112] = 6 if name == 'rotated.jpg' else 1  # to be turned by 90 degrees
        image.save(folder / name, **({'exif': exif} if name.endswith('.jpg') else {}))


def write_coco(root, classes):
    """Write them as a data set of MMDetection, with a box of one pixel, and none in two images."""
    for split in ('train', 'val'):
        write_images(root / split)
        images, annotations = [], []
        for i, (name, (_, width, height)) in enumerate(IMAGES.items()):
            if name == 'rotated.jpg':  # the size is that of what is shown
                width, height = height, width
            images.append(dict(id=i, file_name=name, width=width, height=height))
            if name in ('grey.png', 'palette.png'):
                continue
            for x, y, w, h in ((1, 1, 1, height - 2), (0, 2, width - 1, 3)):
                polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
                annotations.append(
                    dict(
                        id=len(annotations) + 1, image_id=i, category_id=1, bbox=[x, y, w, h],
                        area=w * h, segmentation=[polygon], iscrowd=0,
                    )
                )  # fmt: skip
        categories = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
        (root / 'annotations').mkdir(exist_ok=True)
        (root / 'annotations' / f'instances_{split}.json').write_text(
            json.dumps(dict(images=images, annotations=annotations, categories=categories))
        )


def write_label_maps(root):
    """Write them as a data set of MMSegmentation with two classes."""
    for split in ('train', 'val'):
        write_images(root / split)
        folder = root / 'masks' / split
        folder.mkdir(parents=True)
        for path in (root / split).iterdir():
            if path.suffix != '.jpg':  # the data set goes by a suffix
                path.unlink()
                continue
            _, width, height = IMAGES[path.name]
            if path.name == 'rotated.jpg':
                width, height = height, width
            labels = np.zeros((height, width), np.uint8)
            labels[: height // 2] = 1
            Image.fromarray(labels).save(folder / f'{path.stem}.png')
