"""UperNet, LiSA-base, 160k iterations, ADE20K."""

_base_ = './upernet_lisa_s_ade20k.py'

model = dict(
    backbone=dict(arch='base'),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
