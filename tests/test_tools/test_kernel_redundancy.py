import json
from pathlib import Path

CONFIG = Path(__file__).parents[2] / 'configs' / 'lisa_mini_custom.py'
SCRIPT = 'tools/analysis_tools/kernel_redundancy.py'


def test_measures_each_model_once_and_draws(run_tool, class_folders, tmp_path, count_series):
    args = ['results.json', CONFIG, class_folders / 'val', '--data-root', class_folders]
    args += ['--size', 64, '--num-images', 2, '--name']
    out = run_tool(SCRIPT, *args, 'LiSA')
    assert '| LiSA | stages.0.0 | 16x16 | 2 | ' in out and '| LiSA | mean |' in out
    softmax = ['softmax', '--cfg-options', 'model.backbone.attention.type=SelfAttention']
    run_tool(SCRIPT, *args, *softmax)
    rows = json.loads((tmp_path / 'results.json').read_text())
    assert [row['name'] for row in rows] == ['LiSA'] * 5 + ['softmax'] * 5
    # weights that are never negative
    assert all(row['head_cosine'] > 0 for row in rows[5:])
    assert count_series(tmp_path / 'results.png') == 1
    out = run_tool(SCRIPT, *args, 'LiSA')
    assert "has 'LiSA' already" in out
    assert len(json.loads((tmp_path / 'results.json').read_text())) == 10
    out = run_tool(SCRIPT, *args, 'LiSA', '--num-positions', 4, fails=True)
    assert out.endswith("has 'LiSA' with positions 16, not 4: choose another name\n")
    out = run_tool(SCRIPT, *args, 'LiSA', *softmax[1:], fails=True)
    assert "has 'LiSA' with cfg_options {}, not {'model.backbone.attention.type': " in out


def test_bad_input(fails_with, class_folders, tmp_path):
    def last(results, images, *args):
        args = [results, CONFIG, images, '--data-root', class_folders, '--name', 'a', *args]
        return fails_with(SCRIPT, *args)

    (tmp_path / 'empty').mkdir()
    assert last('results.json', 'empty').startswith('ValueError: empty holds no images (.bmp, ')
    assert last('a.csv', class_folders) == 'the results go into a .json file, got a.csv'
    out = last('results.json', class_folders, '--size', 200)
    assert out == '--size must be a multiple of 32, got 200'
    out = last('results.json', class_folders, '--num-images', 0)
    assert out == '--num-images and --num-positions must be at least 1'
    external = 'model.backbone.attention.type=ExternalAttention'
    out = last('results.json', class_folders, '--cfg-options', external)
    assert out.endswith("has kernels over positions: ['ExternalAttention']")
