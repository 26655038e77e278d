"""Mask R-CNN with light heads, LiSA-tiny, from scratch, on COCO-format data of one's own."""

_base_ = [
    './_base_/models/mask_rcnn_lisa_t_light.py',
    './_base_/datasets/coco_custom.py',
    './_base_/schedules/adamw_scratch.py',
    './_base_/runtimes/detection.py',
]

num_classes = {{_base_.num_classes}}

model = dict(
    roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes))
)
