import csv
import json

import pytest

SCRIPT = 'tools/analysis_tools/benchmark_backbone.py'
NAMES = ('LiSA-tiny', 'Swin-T')


@pytest.mark.parametrize('variant', ['plain', 'channels_last', 'autocast'])
def test_measures_once_and_draws(run_tool, fails_with, tmp_path, variant, count_series):
    args = ['results.json', '--device', 'cpu', '--sizes', '32x64', '--repeats', 1]
    args += ['--variants', variant, '--backbones']
    out = run_tool(SCRIPT, *args, *NAMES)
    assert f'2/2 32x64, training step, {variant}' in out
    rows = json.loads((tmp_path / 'results.json').read_text())
    assert [row['name'] for row in rows] == [*NAMES, *NAMES]
    assert all(row['images_per_second'] > 0 and row['peak_bytes'] > 0 for row in rows)
    with open(tmp_path / 'results.csv', newline='') as file:
        assert len(list(csv.DictReader(file))) == 4
    assert count_series(tmp_path / 'results.png') == 1
    if variant == 'plain':
        assert '/2 32x64' not in run_tool(SCRIPT, *args, *NAMES)
        out = fails_with(SCRIPT, *args, *NAMES, 'PVTv2-B2')
        assert "has ['LiSA-tiny', 'Swin-T'] at 32x64, inference, plain already, without" in out


def test_bad_input(fails_with):
    out = fails_with(SCRIPT, 'results.txt')
    assert out == 'the results go into a .json file, got results.txt'
