"""160,000 iterations of AdamW for segmenters, with the settings of Swin's in MMSegmentation."""

_base_ = __import__('mmseg').__path__[0] + '/.mim/configs/_base_/schedules/schedule_160k.py'

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.00006, betas=(0.9, 0.999), weight_decay=0.01),
    # no decay for norms, biases, layer scale and relative position embeddings
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys=dict(rpe_=dict(decay_mult=0.0))),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=160000, by_epoch=False),
]

default_hooks = dict(checkpoint=dict(type='lisa_mm.AtomicCheckpointHook', max_keep_ckpts=3))

# 8 GPUs with 2 images each
auto_scale_lr = dict(enable=False, base_batch_size=16)
