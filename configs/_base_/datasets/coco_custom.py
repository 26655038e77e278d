"""Instance segmentation data of one's own, in COCO's format.

The folder that CUSTOM_ROOT names, data/custom/ by default, holds the images in
train/ and val/ and their annotations in annotations/instances_train.json and
annotations/instances_val.json. The classes are read from the annotations.
Images are scaled to fit 512 x 512 and trained on in crops of 256 x 256.
"""

# before the imports: they would make MMEngine take this for a lazy config
_base_ = 'mmdet::_base_/datasets/coco_instance.py'

import os.path as osp

from lisa_mm.datasets import coco_classes

data_root = '{{$CUSTOM_ROOT:data/custom/}}'
classes = coco_classes(
    osp.join(data_root, 'annotations/instances_train.json'),
    osp.join(data_root, 'annotations/instances_val.json'),
)
num_classes = len(classes)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', scale=(512, 512), ratio_range=(0.7, 1.4), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(256, 256)),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(512, 512), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=osp.join(data_root, 'annotations/instances_val.json'))
test_evaluator = val_evaluator
