"""Small data sets in the layouts that the configs read, and a way to run a tool as a user does."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from pycocotools.coco import COCO

from lisa_mm.datasets import generate_shapes
from lisa_mm.visualization.style import series_style

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'shapes'
    return generate_shapes(root, num_train=8, num_val=4, image_size=(64, 96))


@pytest.fixture(scope='session')
def coco_folder(shapes, tmp_path_factory):
    """Shapes under the names of COCO 2017: those of its files, and of its first five classes."""
    from mmdet.datasets import CocoDataset

    names = CocoDataset.METAINFO['classes']
    root = tmp_path_factory.mktemp('coco')
    (root / 'annotations').mkdir()
    for split in ('train', 'val'):
        (root / f'{split}2017').symlink_to(shapes / split, target_is_directory=True)
        data = json.loads((shapes / 'annotations' / f'instances_{split}.json').read_text())
        data['categories'] = [{'id': i + 1, 'name': name} for i, name in enumerate(names)]
        (root / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps(data))
    return root


@pytest.fixture(scope='session')
def masks_folder(shapes, tmp_path_factory):
    """Shapes with label maps: 1 where any object is."""
    root = tmp_path_factory.mktemp('masks')
    for split in ('train', 'val'):
        (root / split).mkdir()
        (root / 'masks' / split).mkdir(parents=True)
        coco = COCO(str(shapes / 'annotations' / f'instances_{split}.json'))
        for image_id, image in coco.imgs.items():
            stem = Path(image['file_name']).stem
            Image.open(shapes / split / image['file_name']).save(root / split / f'{stem}.jpg')
            mask = np.zeros((image['height'], image['width']), np.uint8)
            for annotation in coco.imgToAnns[image_id]:
                mask |= coco.annToMask(annotation)
            Image.fromarray(mask).save(root / 'masks' / split / f'{stem}.png')
    return root


@pytest.fixture(scope='session')
def class_folders(shapes, tmp_path_factory):
    """Shapes in a folder for each of two classes, which mean nothing."""
    root = tmp_path_factory.mktemp('classes')
    for split in ('train', 'val'):
        for i, path in enumerate(sorted((shapes / split).glob('*.png'))):
            folder = root / split / f'class_{i % 2}'
            folder.mkdir(parents=True, exist_ok=True)
            (folder / path.name).symlink_to(path)
    return root


@pytest.fixture
def count_series():
    """Say how many series after the first one, which is black, are in a plot, by five colours."""

    def count(path):
        pixels = np.asarray(Image.open(path).convert('RGB')).reshape(-1, 3)
        colors = set(map(tuple, np.unique(pixels, axis=0).tolist()))
        found = (to_rgb(series_style(i)['color']) for i in range(1, 6))
        return sum(tuple(round(255 * part) for part in color) in colors for color in found)

    return count


@pytest.fixture
def fails_with(tmp_path, monkeypatch):
    """Run a script in this process, which is faster; returns what it ended with."""

    def run(script, *args):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'argv', [script, *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / script), run_name='__main__')
        return ended.value.code

    return run


@pytest.fixture
def run_tool(tmp_path):
    """Run a script in an empty working directory; returns what it printed."""

    def run(script, *args, fails=False, **env):
        result = subprocess.run(
            [sys.executable, str(ROOT / script), *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (result.returncode != 0) == fails, result.stdout
        return result.stdout

    return run
