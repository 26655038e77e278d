"""Backbones of 12 to 14 M parameters, all from scratch."""

resnet18 = dict(
    _delete_=True,
    type='mmdet.ResNet',
    depth=18,
    out_indices=(0, 1, 2, 3),
    norm_cfg=dict(type='BN', requires_grad=True),
    norm_eval=False,
)
pvt_v2_b1 = dict(
    _delete_=True,
    type='mmdet.PyramidVisionTransformerV2',
    embed_dims=64,
    num_layers=(2, 2, 2, 2),
    drop_path_rate=0.1,  # as that of LiSA-tiny
)
