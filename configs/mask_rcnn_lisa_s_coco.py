"""Mask R-CNN, LiSA-small, 1x schedule, COCO 2017."""

_base_ = [
    './_base_/models/mask_rcnn_lisa_s.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/adamw_1x.py',
    './_base_/runtimes/detection.py',
]
