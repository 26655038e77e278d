"""Mask R-CNN, LiSA-small, 3x schedule at several scales, COCO 2017."""

_base_ = [
    './_base_/models/mask_rcnn_lisa_s.py',
    './_base_/datasets/coco_instance_ms.py',
    './_base_/schedules/adamw_3x.py',
    './_base_/runtimes/detection.py',
]
