"""The mini config without layer scale, for compare_attention.py."""

_base_ = '../lisa_mini_custom.py'

model = dict(backbone=dict(layer_scale_init_value=0))
