import json

import pytest

from lisa_mm.datasets import coco_classes


def test_classes_keep_the_order_of_the_file(tmp_path):
    # MMDetection numbers the classes in this order, whatever their ids
    path = tmp_path / 'a.json'
    path.write_text(json.dumps({'categories': [{'id': 9, 'name': 'b'}, {'id': 2, 'name': 'ä'}]}))
    assert coco_classes(path) == ('b', 'ä')


def test_files_must_agree(tmp_path):
    for name, order in (('a', 'xy'), ('b', 'xy'), ('c', 'yx')):
        categories = [{'id': i, 'name': letter} for i, letter in enumerate(order)]
        (tmp_path / name).write_text(json.dumps({'categories': categories}))
    assert coco_classes(tmp_path / 'a', tmp_path / 'b') == ('x', 'y')
    with pytest.raises(ValueError, match=r"same order, .* got \('x', 'y'\) and \('y', 'x'\)"):
        coco_classes(tmp_path / 'a', tmp_path / 'b', tmp_path / 'c')


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='no annotation file .*a.json.*--data-root'):
        coco_classes(tmp_path / 'a.json')


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"categories": [{"id": 1}]}'])
def test_another_format(tmp_path, text):
    path = tmp_path / 'a.json'
    path.write_text(text)
    with pytest.raises(ValueError, match="a.json is not in COCO's format: expected a list"):
        coco_classes(path)
