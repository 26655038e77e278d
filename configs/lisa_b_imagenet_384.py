"""LiSA-base at 384 px, 30 epochs from its weights for 224 px, ImageNet-1K."""

_base_ = './lisa_s_imagenet_384.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.5), head=dict(in_channels=768))

load_from = 'work_dirs/lisa_b_imagenet/epoch_300.pth'
