"""UperNet with a light head on a LiSA of 0.7M parameters, from scratch, on small label maps.

The recipe of upernet_lisa_t_custom.py with images half as large, scaled to fit 256 x 256 and
trained on in crops of 128 x 128; without drop path, and with larger steps.
"""

_base_ = './upernet_lisa_t_custom.py'

crop_size = (128, 128)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        _delete_=True,
        type='lisa_mm.LiSA',
        arch=dict(
            embed_dims=(32, 64, 96, 128),
            depths=(1, 1, 2, 1),
            num_heads=(2, 4, 6, 8),
            num_patterns=(2, 2, 2, 2),
            rpe_radius=(27, 15, 7, 3),
            mlp_ratios=(4, 4, 4, 4),
        ),
        pretrain_img_size=128,
    ),
    decode_head=dict(in_channels=[32, 64, 96, 128]),
    auxiliary_head=dict(in_channels=96),
)
optim_wrapper = dict(optimizer=dict(lr=0.002))  # that of lisa_mini_custom.py

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(256, 256), ratio_range=(0.7, 1.4), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(256, 256), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(256, 256), keep_ratio=True)],
            [dict(type='RandomFlip', prob=p, direction='horizontal') for p in (0.0, 1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
