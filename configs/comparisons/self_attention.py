"""LiSA-tiny with structure-aware and with softmax attention, for compare_attention.py.

Each variant is what it changes in configs/lisa_mini_custom.py.
"""


def tiny(**kwargs):
    backbone = dict(arch='tiny', attention=dict(kwargs))
    return {
        'model': dict(backbone=backbone, head=dict(in_channels=512)),
        # a larger network wants a smaller step than the one of 0.7M parameters
        'optim_wrapper.optimizer.lr': 0.001,
    }


variants = {
    'structure-aware attention': tiny(type='StructureAwareAttention'),
    'softmax self-attention': tiny(type='SelfAttention'),
}
