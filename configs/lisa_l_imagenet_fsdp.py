"""LiSA-large, 300 epochs, ImageNet-1K, its weights shared out over the GPUs (FSDP).

Such a training cannot be resumed: MMEngine 0.10 fails to load the optimiser's state.
"""

_base_ = './lisa_l_imagenet.py'

runner_type = 'FlexibleRunner'
strategy = dict(
    type='FSDPStrategy',
    model_wrapper=dict(
        auto_wrap_policy=dict(
            type='torch.distributed.fsdp.wrap.size_based_auto_wrap_policy', min_num_params=int(1e7)
        ),
        use_orig_params=True,
    ),
    state_dict_cfg='full',
)
# The weights, shared out, are flat: what is decayed goes by names. MMEngine would clip the gradients
# by the norm of each process's share.
optim_wrapper = dict(
    clip_grad=None,
    paramwise_cfg=dict(
        _delete_=True,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={name: dict(decay_mult=0.0) for name in ('rpe_', 'scale1', 'scale2')},
    ),
)
# of weights that are shared out, MMEngine keeps no moving average
custom_hooks = []
