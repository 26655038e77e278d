"""Mask2Former, LiSA-small, 160k iterations, ADE20K."""

_base_ = (
    __import__('mmseg').__path__[0]
    + '/.mim/configs/mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py'
)

# drop path as in the base's sibling on Swin-S
model = dict(
    backbone=dict(_delete_=True, type='lisa_mm.LiSA', arch='small', drop_path_rate=0.3),
    decode_head=dict(in_channels=[80, 160, 320, 640]),
)

# a tenth of the learning rate for the backbone, as in the base; no decay for norms, biases, tables
optim_wrapper = dict(
    constructor='lisa_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=1.0, custom_keys=dict(backbone=dict(_delete_=True, lr_mult=0.1))
    ),
)

data_root = '{{$ADE20K_ROOT:data/ade/ADEChallengeData2016}}'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader

default_hooks = dict(checkpoint=dict(type='lisa_mm.AtomicCheckpointHook', max_keep_ckpts=3))
