"""Mask R-CNN, LiSA-base, 1x schedule, COCO 2017."""

_base_ = './mask_rcnn_lisa_s_coco.py'

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.3),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
