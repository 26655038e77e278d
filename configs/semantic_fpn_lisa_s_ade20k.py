"""Semantic FPN, LiSA-small, 80k iterations, ADE20K."""

_base_ = [
    __import__('mmseg').__path__[0] + '/.mim/configs/_base_/models/fpn_r50.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/adamw_80k.py',
    __import__('mmseg').__path__[0] + '/.mim/configs/_base_/default_runtime.py',
]

data_preprocessor = dict(size=(512, 512))
model = dict(
    data_preprocessor=data_preprocessor,
    pretrained=None,
    backbone=dict(_delete_=True, type='lisa_mm.LiSA', arch='small', drop_path_rate=0.2),
    neck=dict(in_channels=[80, 160, 320, 640]),
    decode_head=dict(num_classes=150),
)
