"""UperNet on LiSA-tiny, with a head that trains on a CPU, two classes."""

_base_ = __import__('mmseg').__path__[0] + '/.mim/configs/_base_/models/upernet_swin.py'

norm_cfg = dict(type='BN', requires_grad=True)  # SyncBN needs a GPU
data_preprocessor = dict(size=(256, 256))
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(_delete_=True, type='lisa_mm.LiSA', arch='tiny', drop_path_rate=0.1),
    decode_head=dict(
        in_channels=[64, 128, 256, 512], channels=64, num_classes=2, norm_cfg=norm_cfg
    ),
    auxiliary_head=dict(in_channels=256, channels=64, num_classes=2, norm_cfg=norm_cfg),
)
