"""Training and prediction on awkward images, by the recipes for data of one's own."""

from pathlib import Path

import torch
from awkward_images import IMAGES, write_coco, write_images, write_label_maps
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, FUNCTIONS, MODELS, init_default_scope

from lisa_mm.datasets import SHAPE_CLASSES
from lisa_mm.utils.config import load_config

CONFIGS = Path(__file__).parents[1] / 'configs'


def train_and_predict(cfg):
    """Load everything, train one step on all of it, predict on all of it; count the images."""
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    counts = []
    for loader, training in ((cfg.train_dataloader, True), (cfg.val_dataloader, False)):
        dataset = DATASETS.build(loader.dataset)
        collate = loader.get('collate_fn', dict(type='pseudo_collate'))
        batch = FUNCTIONS.get(collate['type'])([dataset[i] for i in range(len(dataset))])
        counts.append(len(dataset))
        if training:
            data = model.train().data_preprocessor(batch, True)
            loss, _ = model.parse_losses(model(**data, mode='loss'))
            loss.backward()
            assert loss.isfinite()
        else:  # one at a time: their sizes differ
            model.eval()
            with torch.no_grad():
                for i in range(len(dataset)):
                    assert len(model.test_step(FUNCTIONS.get('pseudo_collate')([dataset[i]]))) == 1
    return counts


def test_detector(tmp_path):
    write_coco(tmp_path, SHAPE_CLASSES)
    cfg = load_config(str(CONFIGS / 'mask_rcnn_lisa_shapes.py'), data_root=str(tmp_path))
    cfg.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=False)
    assert train_and_predict(cfg) == [len(IMAGES), len(IMAGES)]


def test_segmenter(tmp_path):
    write_label_maps(tmp_path)
    cfg = load_config(str(CONFIGS / 'upernet_lisa_t_custom.py'), data_root=str(tmp_path))
    number = len([name for name in IMAGES if name.endswith('.jpg')])
    assert train_and_predict(cfg) == [number, number]


def test_classifier(tmp_path):
    for split in ('train', 'val'):
        for name in ('one', 'zwölf'):
            write_images(tmp_path / split / name)
    cfg = load_config(str(CONFIGS / 'lisa_mini_custom.py'), data_root=str(tmp_path))
    assert train_and_predict(cfg) == [2 * len(IMAGES), 2 * len(IMAGES)]


def test_detector_without_any_object(tmp_path):
    """A batch of images without annotations gives a loss, too."""
    write_coco(tmp_path, SHAPE_CLASSES)
    path = tmp_path / 'annotations' / 'instances_train.json'
    path.write_text(path.read_text().replace('"category_id": 1', '"category_id": 99'))
    cfg = load_config(str(CONFIGS / 'mask_rcnn_lisa_shapes.py'), data_root=str(tmp_path))
    cfg.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=False)
    assert train_and_predict(cfg) == [len(IMAGES), len(IMAGES)]
