"""ATSS, LiSA-small, 1x schedule, COCO 2017."""

_base_ = 'mmdet::atss/atss_r50_fpn_1x_coco.py'

import os.path as osp

model = dict(
    backbone=dict(
        _delete_=True,
        type='lisa_mm.LiSA',
        arch='small',
        out_indices=(1, 2, 3),
        drop_path_rate=0.2,
    ),
    # the map at stride 4 is not used, and its norm would have no gradient
    neck=dict(in_channels=[160, 320, 640], start_level=0),
)

# of ./_base_/schedules/adamw_1x.py
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.0001, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys=dict(rpe_=dict(decay_mult=0.0))),
)

data_root = '{{$COCO_ROOT:data/coco/}}'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=osp.join(data_root, 'annotations/instances_val2017.json'))
test_evaluator = val_evaluator

default_hooks = dict(checkpoint=dict(type='lisa_mm.AtomicCheckpointHook', max_keep_ckpts=3))
