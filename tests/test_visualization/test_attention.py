import re

import numpy as np
import pytest
import torch

from lisa_mm.analysis.inspection import attentions_of, record
from lisa_mm.models import LiSA
from lisa_mm.visualization import (
    draw_features,
    draw_kernels,
    draw_patterns,
    draw_receptive_fields,
    draw_tables,
)

ARCH = dict(
    embed_dims=(8, 8, 16, 16),
    depths=(1, 1, 2, 1),
    num_heads=(2, 2, 4, 2),
    num_patterns=(1, 2, 2, 1),
    rpe_radius=(3, 3, 2, 1),
    mlp_ratios=(2, 2, 2, 2),
)
IMAGE = np.zeros((64, 96, 3), np.uint8)


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    return torch.randn(1, 3, 64, 96)


def backbone(**kwargs):
    torch.manual_seed(0)
    return LiSA(ARCH, **kwargs).eval()


def panels(figure):
    """Maps by title, without the range of the colours."""
    return {
        re.sub(r' \((±|0 to ).*\)$', '', axes.get_title().replace('\n', ': ')): (
            axes.images[0].get_array()
        )
        for axes in figure.axes
        if axes.images
    }


def test_tables(tmp_path):
    model = backbone()
    figure = draw_tables(model)
    figure.savefig(tmp_path / 'tables.png')
    found = panels(figure)
    assert len(found) == 4 + 8 + 8 + 4
    attention = attentions_of(model)['stages.2.1']
    expected = attention.rpe_decoder[1, 1].detach().numpy()
    np.testing.assert_array_equal(found['stages.2.1, head 1: D2'], expected)
    assert 'stages.2.0, head 0: E1' in panels(draw_tables(model, block=0))
    assert len(panels(draw_tables(model, num_heads=1))) == 12


def test_patterns(inputs, tmp_path):
    model = backbone()
    figure = draw_patterns(model, IMAGE, inputs)
    figure.savefig(tmp_path / 'patterns.png')
    attention = attentions_of(model)['stages.2.1']
    x, _ = record(model, inputs, {'': attention})['']
    expected = attention.patterns(x)[0, 1, 1].detach().numpy()
    np.testing.assert_allclose(panels(figure)['stages.2.1, head 1: s2'], expected, rtol=1e-5)


def test_kernels_beside_plain_ones(inputs, tmp_path):
    model = backbone()
    figure = draw_kernels(model, IMAGE, inputs, pixel=(95, 40))
    figure.savefig(tmp_path / 'kernels.png')
    attention = attentions_of(model)['stages.2.1']
    x, _ = record(model, inputs, {'': attention})['']
    position = torch.tensor([[2, 5]])  # at stride 16
    found = panels(figure)
    for title, make in (
        ('plain kernel', attention.plain_kernels),
        ('structure-aware', attention.kernels),
    ):
        expected = make(x, position)[0, 1, 0].detach().numpy()
        np.testing.assert_allclose(found[f'stages.2.1, head 1: {title}'], expected, rtol=1e-5)


def test_kernels_of_another_attention(inputs, tmp_path):
    model = backbone(attention=dict(type='SelfAttention'))
    figure = draw_kernels(model, IMAGE, inputs)
    figure.savefig(tmp_path / 'kernels.png')
    found = panels(figure)
    assert {title.split(': ')[1] for title in found} == {'pixel (48, 32)', 'kernel'}
    attention = attentions_of(model)['stages.2.1']
    x, _ = record(model, inputs, {'': attention})['']
    expected = attention.kernels(x, torch.tensor([[2, 3]]))[0, 0, 0].detach().numpy()
    np.testing.assert_allclose(found['stages.2.1, head 0: kernel'], expected, rtol=1e-5)


def test_features(inputs, tmp_path):
    model = backbone(attention=dict(type='ExternalAttention'))
    figure = draw_features(model, IMAGE, inputs)
    figure.savefig(tmp_path / 'features.png')
    found = panels(figure)
    attention = attentions_of(model)['stages.2.1']
    x, _ = record(model, inputs, {'': attention})['']
    channels = x[0].flatten(1) - x[0].flatten(1).mean(1, keepdim=True)
    component = torch.linalg.eigh(channels.T @ channels).eigenvectors[:, -1].abs().numpy()
    shown = np.abs(found['stages.2.1: before the attention']).ravel()
    np.testing.assert_allclose(shown, component, rtol=1e-2, atol=1e-3)


def test_receptive_fields(tmp_path):
    field = torch.zeros(32, 48)
    field[16, 24] = 4
    figure = draw_receptive_fields([field, torch.ones(32, 48)])
    figure.savefig(tmp_path / 'field.png')
    found = panels(figure)
    assert found['stage 0: half of it: in 1 x 1 px'].max() == 2


def test_bad_input(inputs):
    softmax = backbone(attention=dict(type='SelfAttention'))
    message = r"no stage of the backbone has structure-aware attention: \['SelfAttention'\]"
    with pytest.raises(ValueError, match=message):
        draw_tables(softmax)
    with pytest.raises(ValueError, match=message):
        draw_patterns(softmax, IMAGE, inputs)
    with pytest.raises(ValueError, match='block must be from -1 to 0 in stage 0, got 1'):
        draw_tables(backbone(), block=1)
    with pytest.raises(ValueError, match=r'on the image of 96 x 64 pixels, got \(96, 0\)'):
        draw_kernels(backbone(), IMAGE, inputs, pixel=(96, 0))
    external = backbone(attention=dict(type='ExternalAttention'))
    with pytest.raises(ValueError, match=r"kernels over positions: \['ExternalAttention'\]"):
        draw_kernels(external, IMAGE, inputs)
