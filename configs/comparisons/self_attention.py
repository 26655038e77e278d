"""LiSA-tiny, and one of 0.7 M parameters, with structure-aware and with softmax attention.

For compare_attention.py. Each variant is what it changes in configs/lisa_mini_custom.py.
"""

# The tables of tiny are made for 224 px; those that fit 64 px reach across grids of 16, 8, 4, 2.
tiny_64px = dict(
    embed_dims=(64, 128, 256, 512),
    depths=(2, 2, 6, 2),
    num_heads=(4, 8, 16, 32),
    num_patterns=(2, 2, 2, 2),
    rpe_radius=(15, 7, 3, 1),
    mlp_ratios=(4, 4, 4, 4),
)


def variant(arch='tiny', **attention):
    # a dict would be merged into that of the mini config
    backbone = dict(arch=dict(arch, _delete_=True) if isinstance(arch, dict) else arch)
    return {
        'model': dict(backbone=dict(backbone, attention=attention), head=dict(in_channels=512)),
        # a larger network wants a smaller step than the one of 0.7M parameters
        'optim_wrapper.optimizer.lr': 0.001,
    }


variants = {
    'structure-aware attention': variant(type='StructureAwareAttention'),
    'structure-aware attention, tables for 64 px': variant(
        tiny_64px, type='StructureAwareAttention'
    ),
    'softmax self-attention': variant(type='SelfAttention'),
    'mini, structure-aware attention': {},
    'mini, softmax self-attention': dict(
        model=dict(backbone=dict(attention=dict(type='SelfAttention')))
    ),
}
