"""Mask R-CNN with light heads on a LiSA of 2M parameters: learns the shapes on a CPU in minutes."""

_base_ = [
    './_base_/models/mask_rcnn_lisa_t_light.py',
    './_base_/datasets/shapes.py',
    './_base_/schedules/adamw_scratch.py',
    './_base_/runtimes/detection.py',
]

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=(32, 64, 128, 256),
            depths=(1, 1, 3, 1),
            num_heads=(2, 4, 8, 16),
            num_patterns=(4, 4, 4, 4),
            rpe_radius=(15, 15, 7, 3),
            mlp_ratios=(4, 4, 4, 4),
        ),
        pretrain_img_size=128,
        drop_path_rate=0.0,
    ),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=2)),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=5),
        mask_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=2)),
        mask_head=dict(in_channels=64, conv_out_channels=64, num_classes=5),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=400, max_per_img=200),
        rcnn=dict(sampler=dict(num=32, pos_fraction=0.5)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=400, max_per_img=200)),
)

optim_wrapper = dict(optimizer=dict(lr=0.001))

max_epochs = 10
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True, convert_to_iter_based=True),
]

randomness = dict(seed=0)
