"""LiSA-large, 300 epochs, ImageNet-1K, states of the optimiser shared out (DeepSpeed, ZeRO 2)."""

_base_ = './lisa_l_imagenet.py'

runner_type = 'FlexibleRunner'
strategy = dict(
    type='DeepSpeedStrategy',
    bf16=dict(enabled=True),
    inputs_to_half=['inputs'],
    gradient_clipping=5.0,
    zero_optimization=dict(stage=2, overlap_comm=True, contiguous_gradients=True),
)
# DeepSpeed sees to the clipping; its wrapper takes no clip_grad, not even None
optim_wrapper = dict(
    _delete_=True,
    type='DeepSpeedOptimWrapper',
    optimizer={{_base_.optim_wrapper.optimizer}},
    paramwise_cfg={{_base_.optim_wrapper.paramwise_cfg}},
)
# of a model in DeepSpeed's engine, MMEngine keeps no moving average
custom_hooks = []
