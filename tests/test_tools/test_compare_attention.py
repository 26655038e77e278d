import csv
import json
from pathlib import Path

from PIL import Image

CONFIGS = Path(__file__).parents[2] / 'configs'
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
    # a run of another length is another run
    run_tool(SCRIPT, *args[:3], *args[5:], *NAMES[:1], '--seeds', 0, '--epochs', 2)
    assert len(json.loads((tmp_path / 'results.json').read_text())) == 3


def test_measures_once_and_draws(run_tool, class_folders, tmp_path, monkeypatch):
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
    assert Image.open(tmp_path / 'results.png').width > 1000
    assert '/2 32x64' not in run_tool(SCRIPT, *args)
    out = run_tool(SCRIPT, *args, NAMES[2], fails=True)
    assert 'at 32x64, inference already, without the others: ratios are for what is' in out


def test_variants_of_structure_aware_attention(run_tool, class_folders, tmp_path, monkeypatch):
    """Those that the tool itself defines."""
    monkeypatch.setenv('CUSTOM_ROOT', str(class_folders))
    args = ['results.json', '--sizes', '32x32']
    args += ['--variants', CONFIGS / 'comparisons' / 'structure_aware_attention.py', '--repeats', 1]
    run_tool(SCRIPT, *args, '--only', 'default', 'softmax over patterns')
    rows = json.loads((tmp_path / 'results.json').read_text())
    assert rows[0]['parameters'] == rows[1]['parameters']


def test_bad_input(fails_with, class_folders):
    args = 'results.json', '--data-root', class_folders
    out = fails_with(SCRIPT, *args, '--only', 'no such')
    assert out.startswith("--only must name variants out of ['structure-aware (LiSA)', ")
    assert out.endswith("got ['no such']")
    out = fails_with(SCRIPT, *args, '--iterations', 5)
    assert out.endswith('lisa_mini_custom.py trains by epochs: give --epochs, not --iterations')
    assert fails_with(SCRIPT, 'results.json').startswith(
        'nothing to do: give --sizes to measure, or --data-root'
    )
    assert fails_with(SCRIPT, 'results.csv').startswith(
        'the results go into a .json file, got results.csv'
    )
