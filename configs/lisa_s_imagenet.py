"""LiSA-small, 300 epochs, ImageNet-1K."""

_base_ = [
    './_base_/models/lisa_s_classifier.py',
    './_base_/datasets/imagenet.py',
    './_base_/schedules/adamw_300e.py',
    './_base_/runtimes/classification.py',
]

custom_hooks = [dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL')]
