import json

SCRIPT = 'tools/analysis_tools/compare_attention.py'


def test_trains_what_is_missing(run_tool, class_folders, tmp_path):
    args = ['results.json', '--data-root', class_folders, '--epochs', 1, '--seeds', 0, '--only']
    variants = ['default', 'softmax over patterns']
    out = run_tool(SCRIPT, *args, 'default')
    assert '1/1 default, seed 0: accuracy/top1 ' in out
    out = run_tool(SCRIPT, *args, *variants)
    assert 'default, seed 0' not in out and '2/2 softmax over patterns, seed 0:' in out
    rows = json.loads((tmp_path / 'results.json').read_text())
    assert [row['variant'] for row in rows] == variants
    assert all(0 <= row['accuracy/top1'] <= 100 and row['loss'] > 0 for row in rows)
    # they differ in what the variant says, and in nothing else
    assert rows[0]['parameters'] == rows[1]['parameters']
    assert '| softmax over patterns | 1 | lisa_mini_custom |' in out


def test_unknown_variant(run_tool, class_folders):
    args = 'results.json', '--data-root', class_folders, '--only', 'no such'
    out = run_tool(SCRIPT, *args, fails=True)
    assert out.splitlines()[-1].startswith("--only must name variants out of ['default', ")
    assert out.splitlines()[-1].endswith("got ['no such']")
