"""UperNet, LiSA-small, 160k iterations, ADE20K."""

_base_ = [
    './_base_/models/upernet_lisa_s.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/adamw_160k.py',
    __import__('mmseg').__path__[0] + '/.mim/configs/_base_/default_runtime.py',
]
