"""Cascade Mask R-CNN, LiSA-small, 3x schedule at several scales, COCO 2017."""

_base_ = [
    'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py',
    './_base_/datasets/coco_instance_ms.py',
    './_base_/schedules/adamw_3x.py',
    './_base_/runtimes/detection.py',
]

model = dict(
    backbone=dict(_delete_=True, type='lisa_mm.LiSA', arch='small', drop_path_rate=0.2),
    neck=dict(in_channels=[80, 160, 320, 640]),
)
