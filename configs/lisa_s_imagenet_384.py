"""LiSA-small at 384 px, 30 epochs from its weights for 224 px, ImageNet-1K."""

_base_ = [
    './_base_/models/lisa_s_classifier.py',
    './_base_/datasets/imagenet_384.py',
    './_base_/schedules/adamw_30e_finetune.py',
    './_base_/runtimes/classification.py',
]

attention = dict(type='StructureAwareAttention')
model = dict(
    backbone=dict(
        # as far across the last two stages' 24 x 24 and 12 x 12 positions as before
        attention=[
            attention,
            attention,
            dict(attention, rpe_radius=23),
            dict(attention, rpe_radius=11),
        ],
        pretrain_img_size=384,
        drop_path_rate=0.3,
    ),
    train_cfg=dict(augments=None),
)

custom_hooks = [dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL')]

load_from = 'work_dirs/lisa_s_imagenet/epoch_300.pth'
