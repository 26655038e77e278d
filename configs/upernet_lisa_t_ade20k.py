"""UperNet, LiSA-tiny, 160k iterations, ADE20K."""

_base_ = './upernet_lisa_s_ade20k.py'

model = dict(
    backbone=dict(arch='tiny', drop_path_rate=0.2),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
