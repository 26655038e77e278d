"""Mask R-CNN with FPN on LiSA-tiny, from scratch, with heads that train on a CPU.

Half the channels and a quarter of the sampled regions of the usual heads: in
those, the mask head alone costs several times what the backbone does. Without
pretrained weights the pyramid and the heads need normalisation, in groups
because batches are small (`Rethinking ImageNet Pre-training
<https://arxiv.org/abs/1811.08883>`_).
"""

_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

norm_cfg = dict(type='GN', num_groups=16)
model = dict(
    backbone=dict(_delete_=True, type='lisa_mm.LiSA', arch='tiny', drop_path_rate=0.1),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128, norm_cfg=norm_cfg),
    # objects of 16 px and more at stride 4
    rpn_head=dict(in_channels=128, feat_channels=128, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, fc_out_channels=512),
        mask_roi_extractor=dict(out_channels=128),
        mask_head=dict(in_channels=128, conv_out_channels=128, num_convs=2, norm_cfg=norm_cfg),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=1000, max_per_img=500),
        rcnn=dict(sampler=dict(num=128)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)),
)
