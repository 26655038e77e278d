"""Mask R-CNN with FPN on LiSA-small."""

_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

model = dict(
    backbone=dict(_delete_=True, type='lisa_mm.LiSA', arch='small', drop_path_rate=0.2),
    neck=dict(in_channels=[80, 160, 320, 640]),
)
