"""80,000 iterations of AdamW for Semantic FPN, with the settings of PVT.

Source: `Pyramid Vision Transformer <https://arxiv.org/abs/2102.12122>`_, section 5.3.
"""

_base_ = './adamw_160k.py'

train_cfg = dict(max_iters=80000, val_interval=8000)
optim_wrapper = dict(optimizer=dict(lr=0.0001, weight_decay=0.0001))
param_scheduler = [
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=80000, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=8000))
