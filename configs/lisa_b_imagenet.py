"""LiSA-base, 300 epochs, ImageNet-1K."""

_base_ = './lisa_s_imagenet.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.35), head=dict(in_channels=768))
