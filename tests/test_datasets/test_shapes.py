import json
import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lisa_mm.datasets import SHAPE_CLASSES, generate_shapes, shapes

SPLITS = ('train', 'val')
SIZE = (96, 128)
SMALL = {'num_train': 24, 'num_val': 8, 'image_size': SIZE}
TINY = {'num_train': 4, 'num_val': 4, 'image_size': (64, 64)}
TOOL = Path(__file__).parents[2] / 'tools' / 'dataset_tools' / 'make_shapes.py'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return generate_shapes(tmp_path_factory.mktemp('data') / 'shapes', **SMALL)


def load(root, split):
    return json.loads((root / 'annotations' / f'instances_{split}.json').read_text())


def contents(root):
    files = (path for path in root.rglob('*') if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def decode(annotation):
    rle = mask_utils.frPyObjects(annotation['segmentation'], *SIZE)
    rle = mask_utils.merge(rle) if isinstance(rle, list) else rle
    return mask_utils.decode(rle).astype(bool)


def has_hole(mask):
    """Flood the background from outside, over corners too: what stays dry is a hole."""
    dry = np.pad(~mask, 1, constant_values=True)
    todo = [(0, 0)]
    while todo:
        y, x = todo.pop()
        if 0 <= y < dry.shape[0] and 0 <= x < dry.shape[1] and dry[y, x]:
            dry[y, x] = False
            todo += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return bool(dry.any())


def test_same_settings_give_same_bytes(root, tmp_path):
    assert contents(generate_shapes(tmp_path / 'again', **SMALL)) == contents(root)


def test_seed_and_split_change_every_image(root, tmp_path):
    other = generate_shapes(tmp_path / 'other', **SMALL, seed=1)
    images = [data for path, data in contents(root).items() if path.endswith('.png')]
    images += [data for path, data in contents(other).items() if path.endswith('.png')]
    assert len(set(images)) == 2 * (24 + 8)


def test_larger_set_begins_with_smaller_one(root, tmp_path):
    fewer = generate_shapes(tmp_path / 'fewer', **{**SMALL, 'num_train': 6, 'num_val': 4})
    whole = contents(root)
    images = {path: data for path, data in contents(fewer).items() if path.endswith('.png')}
    assert images == {path: whole[path] for path in images}
    for split in SPLITS:
        annotations = load(fewer, split)['annotations']
        assert annotations == load(root, split)['annotations'][: len(annotations)]


@pytest.mark.parametrize('split', SPLITS)
def test_schema(root, split):
    data = load(root, split)
    assert set(data) == {'info', 'licenses', 'images', 'annotations', 'categories'}
    assert [(c['id'], c['name']) for c in data['categories']] == list(enumerate(SHAPE_CLASSES, 1))
    assert len(data['images']) == SMALL[f'num_{split}']
    for image in data['images']:
        with Image.open(root / split / image['file_name']) as file:
            assert file.mode == 'RGB'
            assert file.size == (image['width'], image['height']) == SIZE[::-1]
    assert [a['id'] for a in data['annotations']] == list(range(1, len(data['annotations']) + 1))
    assert {a['image_id'] for a in data['annotations']} <= {i['id'] for i in data['images']}
    for annotation in data['annotations']:
        mask = decode(annotation)
        rle = mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))
        assert annotation['area'] == mask.sum() >= 60
        assert annotation['bbox'] == mask_utils.toBbox(rle).tolist()
        if not annotation['iscrowd']:
            # Integers would be cut off where a pipeline scales polygons in place.
            assert all(isinstance(v, float) for part in annotation['segmentation'] for v in part)


@pytest.mark.parametrize('split', SPLITS)
def test_annotations_are_the_visible_masks(root, split):
    annotations = iter(load(root, split)['annotations'])
    for index in range(SMALL[f'num_{split}']):
        rng = np.random.default_rng([0, SPLITS.index(split), index])
        objects = shapes._draw_image(rng, index, *SIZE)[1]
        for obj in objects:
            annotation = next(annotations)
            assert annotation['category_id'] == obj.label + 1
            np.testing.assert_array_equal(decode(annotation), obj.mask)
        if objects:
            assert np.sum([obj.mask for obj in objects], axis=0).max() == 1
    assert next(annotations, None) is None


@pytest.mark.parametrize('density', (0.1, 0.3, 0.5, 0.7, 0.9))
def test_traced_polygons_fill_any_mask_without_holes(density):
    rng = np.random.default_rng(0)
    outcomes = Counter()
    for _ in range(100):
        mask = rng.random(rng.integers(1, 8, 2)) < density
        polygons = shapes._trace_polygons(mask)
        assert (polygons is None) == has_hole(mask)
        outcomes[polygons is None] += 1
        if polygons:
            rle = mask_utils.merge(mask_utils.frPyObjects(polygons, *mask.shape))
            np.testing.assert_array_equal(mask_utils.decode(rle), mask)
    assert outcomes[False] > 10


def test_outline_has_no_needless_corners():
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    assert shapes._trace_polygons(mask) == [[2, 1, 7, 1, 7, 4, 2, 4]]


@pytest.mark.parametrize('label', range(len(SHAPE_CLASSES)))
def test_drawn_area_is_that_of_the_outline(label):
    rng = np.random.default_rng(label)
    for _ in range(10):
        points = shapes._outline(rng, label, np.array([64.0, 64.0]), 30)
        assert np.hypot(*(points - 64).T).max() == pytest.approx(30)
        drawn = shapes._rasterize(points, 128, 128).sum()
        assert drawn == pytest.approx(shapes._signed_area(points), rel=0.05)


@pytest.mark.parametrize('split', SPLITS)
def test_crowds_occlusion_and_empty_images(root, split):
    data = load(root, split)
    crowds = [a for a in data['annotations'] if a['iscrowd']]
    assert crowds
    for crowd in crowds:
        assert sum(crowd['segmentation']['counts']) == SIZE[0] * SIZE[1]
        assert decode(crowd).sum() == crowd['area']
    counts = Counter(a['image_id'] for a in data['annotations'])
    assert any(counts[image['id']] == 0 for image in data['images'])
    assert max(counts.values()) <= 7

    overlaps = 0
    for image in data['images']:
        boxes = [a['bbox'] for a in data['annotations'] if a['image_id'] == image['id']]
        if boxes:
            ious = mask_utils.iou(np.array(boxes), np.array(boxes), [0] * len(boxes))
            overlaps += (np.triu(ious, 1) > 0).sum()
    assert overlaps > 0


def test_every_class_and_size_occurs(root):
    annotations = load(root, 'train')['annotations']
    assert {a['category_id'] for a in annotations} == set(range(1, len(SHAPE_CLASSES) + 1))
    areas = [a['area'] for a in annotations]
    assert min(areas) < 16**2
    assert max(areas) > 32**2


def test_perfect_predictions_score_one(root, capsys):
    truth = COCO(root / 'annotations' / 'instances_val.json')
    objects = truth.loadAnns(truth.getAnnIds(iscrowd=False))
    predictions = [
        {
            'image_id': obj['image_id'],
            'category_id': obj['category_id'],
            'segmentation': truth.annToRLE(obj),
            'score': 1.0,
        }
        for obj in objects
    ]
    evaluation = COCOeval(truth, truth.loadRes(predictions), 'segm')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    capsys.readouterr()


def test_complete_set_is_left_alone(root):
    calls = []
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    assert generate_shapes(str(root), **SMALL, progress=lambda *args: calls.append(args)) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == before
    assert not calls


def test_other_settings_are_refused(root):
    with pytest.raises(FileExistsError) as error:
        generate_shapes(root, **SMALL, seed=7)
    message = str(error.value)
    assert str(root) in message
    assert "'seed': 7" in message
    assert "found a shapes set with {'num_train': 24" in message
    assert message.endswith('Choose another folder, or remove this one.')


def test_damaged_set_is_refused(tmp_path):
    root = generate_shapes(tmp_path / 'shapes', **TINY)
    (root / 'val' / '000002.png').unlink()
    with pytest.raises(FileExistsError, match='without 1 of its images, such as val/000002.png'):
        generate_shapes(root, **TINY)


@pytest.mark.parametrize('text', (None, '', '[]', '{"info": {"description": "COCO"}}'))
def test_foreign_folder_is_refused(tmp_path, text):
    (tmp_path / 'annotations').mkdir()
    if text is not None:
        (tmp_path / 'annotations' / 'instances_train.json').write_text(text)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match='found something other than a shapes set there'):
        generate_shapes(tmp_path, **TINY)
    assert contents(tmp_path) == before


def test_file_is_refused(tmp_path):
    (tmp_path / 'shapes').write_text('mine')
    with pytest.raises(FileExistsError, match='found a file there. Choose another folder.$'):
        generate_shapes(tmp_path / 'shapes', **TINY)


def test_empty_folder_is_filled(tmp_path):
    root = tmp_path / 'shapes'
    root.mkdir()
    generate_shapes(root, **TINY)
    assert sorted(path.name for path in root.iterdir()) == ['annotations', 'train', 'val']
    assert list(tmp_path.iterdir()) == [root]


def test_interrupted_generation_leaves_nothing(tmp_path):
    def interrupt(done, total):
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_shapes(tmp_path / 'shapes', **TINY, progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_two_writers_agree(tmp_path):
    root = tmp_path / 'shapes'

    def overtake(done, total):
        if done == total:
            generate_shapes(root, **TINY)

    assert generate_shapes(root, **TINY, progress=overtake) == root
    assert list(tmp_path.iterdir()) == [root]


def test_progress_counts_all_images(tmp_path):
    calls = []
    generate_shapes(tmp_path / 'shapes', **TINY, progress=lambda *args: calls.append(args))
    assert calls == [(done, 8) for done in range(1, 9)]


@pytest.mark.parametrize(
    'options, error, message',
    (
        ({'num_train': -1}, ValueError, 'num_train takes an integer of 4 or more, but got -1'),
        ({'num_val': 0}, ValueError, 'num_val takes an integer of 4 or more, but got 0'),
        ({'num_val': True}, TypeError, 'num_val takes an integer of 4 or more, but got True'),
        ({'image_size': 128}, TypeError, 'image_size takes two integers .*, but got 128'),
        ({'image_size': (128,)}, TypeError, r'image_size takes two integers .*, but got \(128,\)'),
        ({'image_size': (63, 128)}, ValueError, r'image_size\[0\] takes .* 64 or more, but got 63'),
        ({'image_size': (128, 64.0)}, TypeError, r'image_size\[1\] takes .*, but got 64.0'),
        ({'seed': 0.5}, TypeError, 'seed takes an integer from 0 to 4294967295, but got 0.5'),
        ({'seed': None}, TypeError, 'seed takes an integer .*, but got None'),
        ({'seed': -1}, ValueError, 'seed takes an integer .*, but got -1'),
        ({'seed': 2**32}, ValueError, 'seed takes an integer .*, but got 4294967296'),
    ),
)
def test_bad_arguments(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        generate_shapes(tmp_path / 'shapes', **options)
    assert not list(tmp_path.iterdir())


def test_tool(tmp_path, capsys):
    main = runpy.run_path(str(TOOL))['main']
    options = ['--num-train', '4', '--num-val', '5', '--image-size', '64', '80', '--seed', '3']
    main([str(tmp_path / 'out'), *options])
    out, err = capsys.readouterr()
    assert out == f'The shapes data set is in {tmp_path / "out"}\n'
    assert err.endswith('\r9/9 images\n')
    assert load(tmp_path / 'out', 'val')['info']['settings'] == {
        'num_train': 4,
        'num_val': 5,
        'image_size': [64, 80],
        'seed': 3,
    }
    with pytest.raises(SystemExit, match='make_shapes.py: error: num_train takes .* got 3'):
        main([str(tmp_path / 'more'), '--num-train', '3'])
