"""Choices within structure-aware attention, one changed at a time, for compare_attention.py.

Each variant is what it changes in configs/lisa_mini_custom.py.
"""


def attention(**kwargs):
    return dict(model=dict(backbone=dict(attention=dict(type='StructureAwareAttention', **kwargs))))


def normalisation(**kwargs):
    kwargs['type'] = 'NormalisationVariant'
    return dict(model=dict(backbone=dict(attention=kwargs)))


def norm(kind):
    return dict(model=dict(backbone=dict(norm_cfg=dict(type=kind))))


def arch(**kwargs):
    return dict(model=dict(backbone=dict(arch=kwargs)))


def tested_at_96_px(**kwargs):
    # the mini config trains and tests at 64 px
    pipeline = 'val_dataloader.dataset.pipeline'
    return {
        f'{pipeline}.1.scale': 96 * 8 // 7,
        f'{pipeline}.2.crop_size': 96,
        **attention(**kwargs),
    }


variants = {
    'default': {},
    'P=1': arch(num_patterns=(1, 1, 1, 1)),
    'P=1, twice the heads': arch(num_patterns=(1, 1, 1, 1), num_heads=(4, 8, 12, 16)),
    'P=4': arch(num_patterns=(4, 4, 4, 4)),
    'P=8': arch(num_patterns=(8, 8, 8, 8)),
    'circular': attention(boundary='circular'),
    'half the extent': arch(rpe_radius=(7, 3, 1, 1)),
    'a quarter of the extent': arch(rpe_radius=(3, 2, 1, 1)),
    'q, k unnormalised': normalisation(query_key='none'),
    'q, k by RMS over channels and positions': normalisation(query_key='rms'),
    'v L2-normalised': normalisation(value='l2'),
    'patterns by RMS': normalisation(patterns='rms'),
    'softmax over patterns': normalisation(patterns='softmax'),
    'GELU on patterns': normalisation(patterns='gelu'),
    'LayerNorm at each position instead of GroupNorm': norm('LN2d'),
    'BatchNorm instead of GroupNorm': norm('BN'),
    'tested at 96 px, extend': tested_at_96_px(resolution='extend'),
    'tested at 96 px, interpolate': tested_at_96_px(resolution='interpolate'),
}
