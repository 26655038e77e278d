"""A LiSA of 0.7M parameters, from scratch, on small images of one's own in a folder per class."""

_base_ = [
    './_base_/datasets/folders_custom.py',
    './_base_/schedules/adamw_scratch.py',
    './_base_/runtimes/classification.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='lisa_mm.LiSA',
        arch=dict(
            embed_dims=(32, 64, 96, 128),
            depths=(1, 1, 2, 1),
            num_heads=(2, 4, 6, 8),
            num_patterns=(2, 2, 2, 2),
            rpe_radius=(15, 7, 3, 1),
            mlp_ratios=(4, 4, 4, 4),
        ),
        out_indices=(3,),
        pretrain_img_size=64,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes={{_base_.num_classes}},
        in_channels=128,
        loss=dict(type='CrossEntropyLoss'),
    ),
)

optim_wrapper = dict(optimizer=dict(lr=0.002))

max_epochs = 30
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True, convert_to_iter_based=True),
]
# one GPU, or a CPU, with 32 images
auto_scale_lr = dict(base_batch_size=32)
