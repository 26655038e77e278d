"""LiSA-large, 300 epochs, ImageNet-1K."""

_base_ = './lisa_s_imagenet.py'

model = dict(backbone=dict(arch='large', drop_path_rate=0.5), head=dict(in_channels=1024))
