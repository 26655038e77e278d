"""DINO with four scales, LiSA-small, 12 epochs, COCO 2017."""

_base_ = 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'

import os.path as osp

model = dict(
    backbone=dict(
        _delete_=True,
        type='lisa_mm.LiSA',
        arch='small',
        out_indices=(1, 2, 3),
        drop_path_rate=0.2,
    ),
    neck=dict(in_channels=[160, 320, 640]),
)

# a tenth of the learning rate for the backbone, as in the base; no decay for norms, biases, tables
optim_wrapper = dict(
    constructor='lisa_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=1.0, custom_keys=dict(backbone=dict(_delete_=True, lr_mult=0.1))
    ),
)

data_root = '{{$COCO_ROOT:data/coco/}}'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=osp.join(data_root, 'annotations/instances_val2017.json'))
test_evaluator = val_evaluator

default_hooks = dict(checkpoint=dict(type='lisa_mm.AtomicCheckpointHook', max_keep_ckpts=3))
