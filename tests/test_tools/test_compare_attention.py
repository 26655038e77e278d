import argparse
import csv
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lisa_mm import __version__
from lisa_mm.analysis.benchmark import describe_environment
from lisa_mm.analysis.isolation import run_isolated

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
SCRIPT = 'tools/analysis_tools/compare_attention.py'
NAMES = ['structure-aware (LiSA)', 'external', 'depthwise convolution']


def test_trains_what_is_missing(run_tool, class_folders, tmp_path):
    args = ['results.json', '--data-root', class_folders, '--epochs', 1, '--seeds', 0]
    args += ['--match-parameters', '--only']
    out = run_tool(SCRIPT, *args, NAMES[0])
    assert f'1/1 {NAMES[0]}, seed 0: accuracy/top1 ' in out
    out = run_tool(SCRIPT, *args, *NAMES[:2])
    assert f'{NAMES[0]}, seed 0' not in out and f'2/2 {NAMES[1]}, seed 0:' in out
    rows = json.loads((tmp_path / 'results.json').read_text())
    assert [row['variant'] for row in rows] == NAMES[:2]
    assert all(0 <= row['accuracy/top1'] <= 100 and row['loss'] > 0 for row in rows)
    # they differ in what the variant says, and in no more than that
    assert abs(rows[1]['parameters'] / rows[0]['parameters'] - 1) < 2e-3
    assert f'| {NAMES[1]} | 0.69' in out
    # a run of another length is another run; what it was not asked for does not lose it
    wrong = ['--seeds', 0, '--epochs', 2, '--metrics', 'top1']
    out = run_tool(SCRIPT, *args[:3], *args[5:], *NAMES[:1], *wrong, fails=True)
    assert "is not evaluated by ['top1']; --metrics may name ['accuracy/top1']" in out
    rows = json.loads((tmp_path / 'results.json').read_text())
    assert len(rows) == 3 and 'accuracy/top1' in rows[2]


def test_runs_of_another_version_or_config_are_others(class_folders, tmp_path):
    tool = runpy.run_path(str(ROOT / SCRIPT))
    args = argparse.Namespace(
        config=str(CONFIGS / 'lisa_mini_custom.py'),
        variants=str(CONFIGS / 'comparisons' / 'attention_operators.py'),
        cfg_options={'optim_wrapper.optimizer.lr': 0.5}, data_root=str(class_folders),
        match_parameters=False, unit='epochs', length=1, results=tmp_path / 'results.json',
    )  # fmt: skip
    variant = {'optim_wrapper.optimizer.weight_decay': 0.25}
    optimizer = tool['load_variant'](args, variant).optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (0.5, 0.25)
    like = dict(tool['setting_of'](args), seed=0, data=class_folders.name, epochs=1)
    like |= dict(lisa_mm=__version__, device=describe_environment(tool['device']())['device'])
    others = [dict(like, lisa_mm='0.0'), dict(like, cfg_options={})]
    args.results.write_text(json.dumps([like, *others]))
    assert tool['runs_like_these'](args) == [like]


def test_a_stopped_run_gives_what_it_would_have_given(run_tool, class_folders, tmp_path):
    args = ['--data-root', class_folders, '--epochs', 12, '--seeds', 0, '--only', NAMES[1]]
    run_tool(SCRIPT, 'whole.json', *args)
    process = subprocess.Popen(
        list(map(str, [sys.executable, ROOT / SCRIPT, 'results.json', *args])),
        cwd=tmp_path,
        start_new_session=True,
    )
    run_dir = tmp_path / 'work_dirs' / 'compare_attention' / 'lisa_mini_custom'
    while not list(run_dir.glob('external_seed0_*/last_checkpoint')):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 'external, seed 0: going on from epoch_' in run_tool(SCRIPT, 'results.json', *args)
    [whole], [row] = (
        json.loads((tmp_path / f'{name}.json').read_text()) for name in ('whole', 'results')
    )
    keys = 'loss', 'accuracy/top1', 'epochs', 'iterations', 'parameters'
    assert [row[key] for key in keys] == pytest.approx([whole[key] for key in keys], rel=1e-4)
    assert not list(run_dir.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason='the function is of no module to import')
def test_a_run_stopped_before_its_evaluation(class_folders, tmp_path, capfd):
    config = tmp_path / 'config.py'
    config.write_text(f"""
_base_ = {str(CONFIGS / 'lisa_mini_custom.py')!r}
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=3, val_interval=1)
param_scheduler = [dict(type='PolyLR', by_epoch=False, end=3)]
# weights to start from, which a run that was stopped must not start from again
load_from = {str(tmp_path / 'start.pth')!r}
""")
    torch.save(dict(state_dict={'head.fc.bias': torch.zeros(2)}), tmp_path / 'start.pth')
    args = argparse.Namespace(
        config=str(config), variants=str(CONFIGS / 'comparisons' / 'attention_operators.py'),
        data_root=str(class_folders), match_parameters=False, cfg_options=None,
        unit='iterations', length=3, work_dir=tmp_path / 'work',
    )  # fmt: skip
    train = runpy.run_path(str(ROOT / SCRIPT))['train']
    metrics, rest, work_dir = run_isolated(train, args, 'a b', {}, 0)
    assert metrics and rest['iterations'] == 3
    assert 'going on' not in capfd.readouterr().out
    # as if it had been stopped after its last checkpoint
    path = work_dir / 'iter_3.pth'
    checkpoint = torch.load(path, weights_only=False)
    scalars = checkpoint['message_hub']['log_scalars']
    for name in [name for name in scalars if name.startswith('val/')]:
        del scalars[name]
    torch.save(checkpoint, path)
    again, _, other_dir = run_isolated(train, args, 'a b', {}, 0)
    assert (again, other_dir) == (metrics, work_dir)
    assert 'a b, seed 0: going on from iter_3.pth' in capfd.readouterr().out
    # changed in what it is, it is another run
    _, _, other_dir = run_isolated(train, args, 'a b', {'optim_wrapper.optimizer.lr': 1e-4}, 0)
    assert other_dir != work_dir


def test_measures_once_and_draws(run_tool, class_folders, tmp_path, monkeypatch, count_series):
    monkeypatch.setenv('CUSTOM_ROOT', str(class_folders))
    args = ['results.json', '--repeats', 1]
    args += ['--match-parameters', '--sizes', '32x64', '--only', *NAMES[:2]]
    out = run_tool(SCRIPT, *args)
    assert '2/2 32x64, training step' in out
    rows = json.loads((tmp_path / 'results.json').read_text())
    assert [row['variant'] for row in rows] == NAMES[:2] * 2
    assert all(row['seconds'] > 0 and row['peak_bytes'] > 0 for row in rows)
    with open(tmp_path / 'results.csv', newline='') as file:
        table = list(csv.DictReader(file))
    assert [line['variant'] for line in table] == NAMES[:2]
    assert float(table[0]['inference at 32x64 (ms)']) > 0
    assert float(table[1]['training step at 32x64 (MiB)']) > 0
    assert count_series(tmp_path / 'results.png') == 1
    assert '/2 32x64' not in run_tool(SCRIPT, *args)
    out = run_tool(SCRIPT, *args, NAMES[2], fails=True)
    assert 'at 32x64, inference already, without the others: ratios are for what is' in out


def test_backbones_of_other_codebases_and_modules_of_ones_own(
    run_tool, class_folders, tmp_path, monkeypatch
):
    (tmp_path / 'my_attention.py').write_text("""
from torch import nn
from lisa_mm.registry import MODELS

@MODELS.register_module()
class MyAttention(nn.Identity):
    def __init__(self, embed_dims, num_heads, init_cfg=None):
        super().__init__()
""")
    (tmp_path / 'variants.py').write_text("""
custom_imports = dict(imports=['my_attention'])
variants = {
    'mine': dict(model=dict(backbone=dict(attention=dict(type='MyAttention')))),
    'ResNet-18': dict(model=dict(
        backbone=dict(_delete_=True, type='ResNet', depth=18), head=dict(in_channels=512))),
}
""")
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv('CUSTOM_ROOT', str(class_folders))
    args = ['--variants', 'variants.py', '--sizes', '64x64', '--repeats', 1]
    out = run_tool(SCRIPT, 'results.json', *args)
    assert '| mine |' in out and '| ResNet-18 |' in out


def test_variants_of_structure_aware_attention(run_tool, class_folders, tmp_path, monkeypatch):
    """Those that the tool itself defines."""
    monkeypatch.setenv('CUSTOM_ROOT', str(class_folders))
    args = ['results.json', '--sizes', '32x32']
    args += ['--variants', CONFIGS / 'comparisons' / 'structure_aware_attention.py', '--repeats', 1]
    run_tool(SCRIPT, *args, '--only', 'default', 'softmax over patterns')
    rows = json.loads((tmp_path / 'results.json').read_text())
    assert rows[0]['parameters'] == rows[1]['parameters']


def test_bad_input(fails_with, class_folders, tmp_path):
    args = 'results.json', '--data-root', class_folders
    out = fails_with(SCRIPT, *args, '--only', 'no such')
    assert out.startswith("--only must name variants out of ['structure-aware (LiSA)', ")
    assert out.endswith("got ['no such']")
    out = fails_with(SCRIPT, *args, '--iterations', 5)
    assert out.endswith('lisa_mini_custom.py trains by epochs: give --epochs, not --iterations')
    variants = tmp_path / 'variants.py'
    variants.write_text("variants = {'a': {}, 'b': {'model.backbne': 1}}")
    out = fails_with(SCRIPT, *args, '--variants', variants)
    assert out.startswith("variant 'b': TypeError: ") and 'backbne' in out
    (tmp_path / 'broken.json').write_text('{bad')
    out = fails_with(SCRIPT, 'broken.json', *args[1:])
    assert out.startswith('ValueError: broken.json is not a file of results: ')
    out = fails_with(SCRIPT, *args, '--epochs', 0)
    assert out == '--epochs must be at least 1, got 0'
    out = fails_with(SCRIPT, *args, '--variants', CONFIGS / 'lisa_t_imagenet.py')
    assert out.endswith('lisa_t_imagenet.py must define a dict `variants`')
    assert fails_with(SCRIPT, 'results.json').startswith(
        'nothing to do: give --sizes to measure, or --data-root'
    )
    assert fails_with(SCRIPT, 'results.csv').startswith(
        'the results go into a .json file, got results.csv'
    )
