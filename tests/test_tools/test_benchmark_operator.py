import csv
import json

OPTIONS = ['--channels', 4, '--heads', 2, '--patterns', 2, '--radius', 2, '--repeats', 1]


def test_measures_once_and_draws(run_tool, tmp_path, count_series):
    script = 'tools/analysis_tools/benchmark_operator.py'
    args = ['results.json', '--device', 'cpu', *OPTIONS]
    out = run_tool(script, *args, '--grids', '5x6')
    assert '2/2 batch 1, 5x6, forward + backward' in out
    # too many positions for what is quadratic in them
    out = run_tool(script, *args, '--grids', '5x6', '60x57', '3x4', '--max-pairs', 1e6)
    assert '5x6, forward' not in out and '3/6 batch 1, 60x57, forward' in out
    # what is extrapolated starts from the largest, and not from the last that was measured
    assert '| 3x4 | 5x6 | 60x57 |' in out
    rows = json.loads((tmp_path / 'results.json').read_text())
    assert all(row['seconds'] > 0 and row['peak_bytes'] > 0 for row in rows)
    names = {row['name'] for row in rows}
    assert {'softmax', 'window 7x7', 'efficient', 'global filter', 'LiSA unfused'} < names
    assert {'LiSA dense', 'LiSA fft', 'LiSA auto', 'LiSA prepared'} < names
    large = {row['name'] for row in rows if row['grid'] == [60, 57]}
    assert names - large == {'softmax', 'LiSA dense'}
    with open(tmp_path / 'results.csv', newline='') as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert count_series(tmp_path / 'results.png') == 5
    assert '| LiSA fft |' in out


def test_bad_input(fails_with, capsys):
    script = 'tools/analysis_tools/benchmark_operator.py'
    out = fails_with(script, 'results.json', '--channels', 5, '--heads', 2)
    assert out == '--channels must be a multiple of --heads, got 5 and 2'
    out = fails_with(script, 'results.txt')
    assert out == 'the results go into a .json file, got results.txt'
    fails_with(script, 'results.json', '--grids', '56')
    assert "a size is written like 56x56, got '56'" in capsys.readouterr().err
