"""300 epochs of AdamW for classifiers, with the settings of Swin's recipe in MMPretrain."""

_base_ = 'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py'

optim_wrapper = dict(
    # flat_decay_mult covers norms, biases and layer scale already; the embeddings are not flat
    paramwise_cfg=dict(custom_keys=dict(rpe_=dict(decay_mult=0.0))),
    clip_grad=dict(max_norm=5.0),
)

# 8 GPUs with 128 images each
auto_scale_lr = dict(enable=False, base_batch_size=1024)
