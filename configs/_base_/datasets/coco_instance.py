"""COCO 2017 in the folder that COCO_ROOT names; data/coco/ by default."""

# before the imports: they would make MMEngine take this for a lazy config
_base_ = 'mmdet::_base_/datasets/coco_instance.py'

import os.path as osp

data_root = '{{$COCO_ROOT:data/coco/}}'

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))

val_evaluator = dict(ann_file=osp.join(data_root, 'annotations/instances_val2017.json'))
test_evaluator = val_evaluator
