"""UperNet with a light head, LiSA-tiny, from scratch, on label maps of one's own."""

_base_ = [
    './_base_/models/upernet_lisa_t_light.py',
    './_base_/datasets/masks_custom.py',
    './_base_/schedules/adamw_scratch_iters.py',
    __import__('mmseg').__path__[0] + '/.mim/configs/_base_/default_runtime.py',
]
