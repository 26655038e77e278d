import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from lisa_mm.datasets import SHAPE_CLASSES, generate_shapes
from lisa_mm.visualization import draw_instances


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return generate_shapes(tmp_path_factory.mktemp('data') / 'shapes', num_train=4, num_val=6)


def perfect_predictions(ann_file, with_masks=True):
    coco = COCO(str(ann_file))
    predictions = []
    for image_id in coco.imgs:
        anns = coco.imgToAnns[image_id]
        instances = dict(
            scores=np.linspace(1, 0.6, len(anns)),
            labels=np.array([ann['category_id'] - 1 for ann in anns]),
            bboxes=np.array([[x, y, x + w, y + h] for x, y, w, h in (a['bbox'] for a in anns)]),
        )
        if with_masks:
            instances['masks'] = [coco.annToRLE(ann) for ann in anns]
        predictions.append(dict(img_id=image_id, pred_instances=instances))
    return predictions


@pytest.mark.parametrize('with_masks', [True, False])
def test_draws_pairs(shapes, tmp_path, with_masks):
    ann_file = shapes / 'annotations' / 'instances_val.json'
    predictions = perfect_predictions(ann_file, with_masks)
    figure = draw_instances(ann_file, shapes / 'val', predictions, SHAPE_CLASSES, num_images=3)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert len(titles) == 6
    for annotated, predicted in zip(titles[::2], titles[1::2]):
        # a crowd is predicted here, but not drawn among the annotated
        assert annotated.startswith('annotated: ') and predicted.startswith('predicted: ')
        assert 0 <= int(predicted.split()[-1]) - int(annotated.split()[-1]) <= 1
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names and names <= set(SHAPE_CLASSES)
    figure.savefig(tmp_path / 'picture.png', dpi=40)


def test_leaves_out_low_scores(shapes):
    ann_file = shapes / 'annotations' / 'instances_val.json'
    predictions = perfect_predictions(ann_file)
    figure = draw_instances(ann_file, shapes / 'val', predictions, num_images=1, score_thr=1.1)
    assert figure.axes[1].get_title() == 'predicted: 0'


def test_bad_input(shapes, tmp_path):
    ann_file = shapes / 'annotations' / 'instances_val.json'
    with pytest.raises(ValueError, match='num_images must be positive, got 0'):
        draw_instances(ann_file, shapes / 'val', [], num_images=0)
    with pytest.raises(ValueError, match='no image of .* has both predictions and objects'):
        draw_instances(ann_file, shapes / 'val', [])
    assert json.loads(ann_file.read_text())['images']
