"""UperNet on LiSA-small, inputs of 512 x 512, the 150 classes of ADE20K."""

_base_ = __import__('mmseg').__path__[0] + '/.mim/configs/_base_/models/upernet_swin.py'

data_preprocessor = dict(size=(512, 512))
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(_delete_=True, type='lisa_mm.LiSA', arch='small', drop_path_rate=0.3),
    decode_head=dict(in_channels=[80, 160, 320, 640], num_classes=150),
    auxiliary_head=dict(in_channels=320, num_classes=150),
)
