"""AdamW with a cosine schedule, for small data sets and training from scratch."""

max_epochs = 12

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0005, betas=(0.9, 0.999), weight_decay=0.05),
    # no decay for norms, biases, layer scale and relative position embeddings
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys=dict(rpe_=dict(decay_mult=0.0))),
    clip_grad=dict(max_norm=5.0),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True, convert_to_iter_based=True),
]

# one GPU, or a CPU, with 4 images
auto_scale_lr = dict(enable=False, base_batch_size=4)
