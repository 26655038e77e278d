"""30 epochs of AdamW for fine-tuning classifiers at a larger size.

Learning rate, layer decay, weight decay and length of ConvNeXt's fine-tuning at
384 px from weights of ImageNet-1K (`A ConvNet for the 2020s
<https://arxiv.org/abs/2201.03545>`_, appendix A); the clipping of gradients is
that of the pretraining here.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-5, weight_decay=1e-8, betas=(0.9, 0.999), eps=1e-8),
    constructor='lisa_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7),
    clip_grad=dict(max_norm=5.0),
)

param_scheduler = [
    dict(
        type='CosineAnnealingLR', T_max=30, eta_min=1e-6, by_epoch=True, convert_to_iter_based=True
    )
]

train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# 8 GPUs with 64 images each
auto_scale_lr = dict(enable=False, base_batch_size=512)
