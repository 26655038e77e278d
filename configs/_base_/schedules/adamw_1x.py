"""12 epochs of AdamW for detectors, with the settings of Swin's recipes in MMDetection."""

_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.0001, betas=(0.9, 0.999), weight_decay=0.05),
    # no decay for norms, biases, layer scale and relative position embeddings
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys=dict(rpe_=dict(decay_mult=0.0))),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
