"""LiSA-tiny and two peers in UperNet, for compare_attention.py.

Each variant is what it changes in configs/upernet_lisa_t_custom.py.
"""

_base_ = './_base_/backbones.py'

variants = {
    'LiSA-tiny': {},
    'ResNet-18': dict(model=dict(backbone={{_base_.resnet18}})),
    'PVTv2-B1': dict(
        model=dict(
            backbone={{_base_.pvt_v2_b1}},
            decode_head=dict(in_channels=[64, 128, 320, 512]),
            auxiliary_head=dict(in_channels=320),
        )
    ),
}
