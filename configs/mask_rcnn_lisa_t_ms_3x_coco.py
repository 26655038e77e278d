"""Mask R-CNN, LiSA-tiny, 3x schedule at several scales, COCO 2017."""

_base_ = './mask_rcnn_lisa_s_ms_3x_coco.py'

model = dict(
    backbone=dict(arch='tiny', drop_path_rate=0.1),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
