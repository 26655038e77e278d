"""ImageNet-1K at 384 px, in the folder that IMAGENET_ROOT names; data/imagenet/ by default."""

_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_384.py'

data_root = '{{$IMAGENET_ROOT:data/imagenet/}}'

# 8 GPUs with 64 images each
train_dataloader = dict(
    collate_fn=dict(type='default_collate'),
    dataset=dict(data_root=data_root),
)
val_dataloader = dict(
    collate_fn=dict(type='default_collate'),
    dataset=dict(data_root=data_root),
)
test_dataloader = val_dataloader
