"""36 epochs of AdamW for detectors, with the settings of Swin's recipes in MMDetection."""

_base_ = './adamw_1x.py'

train_cfg = dict(max_epochs=36)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
