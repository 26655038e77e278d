"""AdamW with a cosine schedule by iterations, for segmenters on small data sets."""

_base_ = './adamw_scratch.py'

max_iters = 300

train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters
)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='lisa_mm.AtomicCheckpointHook', by_epoch=False, interval=100, max_keep_ckpts=3
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=max_iters, by_epoch=False),
]

# one GPU, or a CPU, with 8 images
auto_scale_lr = dict(base_batch_size=8)
