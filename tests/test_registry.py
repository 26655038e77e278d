"""The package in fresh processes: what it imports, and building from the codebases' registries."""

import subprocess
import sys

import pytest

CODEBASES = ('mmdet', 'mmseg', 'mmpretrain')


def run_python(code):
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize('module', ['lisa_mm', 'lisa_mm.ops', 'lisa_mm.models', 'lisa_mm.datasets'])
def test_import_is_light(module):
    print_imported = f'import sys, {module}; print(*sys.modules)'
    imported = set(run_python(print_imported).split())
    assert module in imported
    assert not imported & {*CODEBASES, 'mmcv'}
    if module in ('lisa_mm', 'lisa_mm.ops'):
        assert 'mmengine' not in imported


@pytest.mark.parametrize('with_default_scope', [False, True])
@pytest.mark.parametrize('codebase', CODEBASES)
def test_builds_from_the_registry_of_a_codebase(codebase, with_default_scope):
    set_scope = (
        f'from mmengine.registry import init_default_scope; init_default_scope({codebase!r})'
        if with_default_scope
        else ''
    )
    code = f"""
import torch
from {codebase}.registry import MODELS
{set_scope}
attention = dict(type='StructureAwareAttention', num_patterns=2)  # no scope
model = MODELS.build(dict(type='lisa_mm.LiSA', arch='tiny', attention=attention))
print([tuple(x.shape) for x in model.eval()(torch.zeros(1, 3, 32, 64))])
print(type(model.stages[0][0].attention).__module__, model.stages[0][0].attention.num_patterns)
"""
    shapes, attention = run_python(code).splitlines()[-2:]
    assert shapes == '[(1, 64, 8, 16), (1, 128, 4, 8), (1, 256, 2, 4), (1, 512, 1, 2)]'
    assert attention == 'lisa_mm.models.attention.structure_aware_attention 2'


def test_a_too_old_package_is_not_swallowed_by_the_registry():
    code = """
import importlib.metadata as metadata
version = metadata.version
metadata.version = lambda name: '0.7.0' if 'mmengine' in name else version(name)
from mmengine.registry import MODELS
try:
    MODELS.build(dict(type='lisa_mm.LiSA'))
except ImportError as error:
    print(error)
"""
    message = run_python(code).splitlines()[-1]
    assert message.startswith('mmengine 0.7.0 is too old: lisa_mm needs 0.10')
    assert 'pip install --upgrade' in message
