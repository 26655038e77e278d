"""Every attention of the package in the same slot, for compare_attention.py.

Each variant is what it changes in the config of a LiSA backbone.
"""


def variant(**attention):
    return dict(model=dict(backbone=dict(attention=attention)))


variants = {
    'structure-aware (LiSA)': variant(type='StructureAwareAttention'),
    'softmax': variant(type='SelfAttention'),
    'softmax, position bias': variant(type='SelfAttention', position_bias=True),
    'window': variant(type='WindowAttention'),
    'halo': variant(type='HaloAttention'),
    'Gaussian': variant(type='GaussianAttention'),
    'external': variant(type='ExternalAttention'),
    'external, one head': variant(type='ExternalAttention', multi_head=False),
    'efficient': variant(type='EfficientAttention'),
    'linear (Taylor)': variant(type='LinearAttention'),
    'focused linear': variant(type='FocusedLinearAttention'),
    'global filter': variant(type='GlobalFilter'),
    'depthwise convolution': variant(type='DepthwiseConv'),
}
