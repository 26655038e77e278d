"""Export to ONNX, checked with onnxruntime."""

import pytest
import torch

from lisa_mm.models import LiSA, StructureAwareAttention

onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

DYNAMIC = getattr(getattr(torch.export, 'Dim', None), 'DYNAMIC', None)
pytestmark = pytest.mark.skipif(DYNAMIC is None, reason='needs an exporter with open sizes')


OPEN = {0: DYNAMIC, 2: DYNAMIC, 3: DYNAMIC}


def check(model, example, others, path, dynamic_shapes=(OPEN,)):
    """Export, with open batch, height and width by default; compare on several inputs."""
    model.eval()
    torch.onnx.export(model, (example,), path, dynamo=True, dynamic_shapes=dynamic_shapes)
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    for x in (example, *others):
        with torch.no_grad():
            expected = model(x)
        expected = expected if isinstance(expected, tuple) else (expected,)
        found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        assert len(found) == len(expected)
        for found_map, expected_map in zip(found, expected):
            error = (torch.from_numpy(found_map) - expected_map).abs().max()
            assert error < 1e-4 * expected_map.abs().max()


@pytest.mark.parametrize('boundary', ['zero', 'circular'])
def test_attention(boundary, tmp_path):
    torch.manual_seed(0)
    module = StructureAwareAttention(16, 2, rpe_radius=4, boundary=boundary)
    others = torch.randn(1, 16, 9, 16), torch.randn(3, 16, 21, 3)
    check(module, torch.randn(2, 16, 14, 11), others, tmp_path / 'attention.onnx')


def test_interpolated_tables_need_a_fixed_size(tmp_path):
    torch.manual_seed(0)
    module = StructureAwareAttention(16, 2, 2, 3, resolution='interpolate', reference_grid=5)
    x = torch.randn(2, 16, 8, 7)
    with pytest.raises(Exception, match='Failed to export') as error:
        check(module, x, (), tmp_path / 'open.onnx')
    assert 'export it with a fixed height and width' in str(error.value.__cause__)
    # another tensor: the exporter has marked the first one's sizes as open
    check(module, x.clone(), (), tmp_path / 'fixed.onnx', dynamic_shapes=None)


def test_backbone(tmp_path):
    torch.manual_seed(0)
    arch = dict(
        embed_dims=(8, 16, 24, 32),
        depths=(1, 1, 1, 1),
        num_heads=(1, 2, 3, 4),
        num_patterns=(1, 2, 1, 1),
        rpe_radius=(5, 5, 3, (2, 1)),
        mlp_ratios=(2, 2, 2, 2),
    )
    others = torch.randn(1, 3, 96, 128), torch.randn(1, 3, 65, 79)
    check(LiSA(arch), torch.randn(2, 3, 64, 96), others, tmp_path / 'backbone.onnx')
