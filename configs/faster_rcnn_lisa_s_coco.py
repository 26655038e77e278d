"""Faster R-CNN, LiSA-small, 1x schedule, COCO 2017."""

_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/adamw_1x.py',
    './_base_/runtimes/detection.py',
]

model = dict(
    backbone=dict(_delete_=True, type='lisa_mm.LiSA', arch='small', drop_path_rate=0.2),
    neck=dict(in_channels=[80, 160, 320, 640]),
)
