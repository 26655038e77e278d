"""MMPretrain's runtime, with checkpoints that survive being killed."""

_base_ = 'mmpretrain::_base_/default_runtime.py'

default_hooks = dict(checkpoint=dict(type='lisa_mm.AtomicCheckpointHook', max_keep_ckpts=3))
