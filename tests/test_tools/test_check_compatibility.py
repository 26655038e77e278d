import json

TOOL = 'tools/analysis_tools/check_compatibility.py'


def test_results_are_kept_and_make_a_page(run_tool, tmp_path):
    old = dict(codebase='mmdet', version='3.0.0', family='yolof', config='mmdet::a.py', arch='tiny')
    old |= dict(result='fails', reason='', torch='2.0', date='2023-01-01')
    (tmp_path / 'rows.json').write_text(json.dumps([old]))
    args = 'rows.json', '--codebases', 'mmdet', '--only', 'yolof', 'cornernet', '--page', 'page.md'
    out = run_tool(TOOL, *args)
    assert '2/2 yolof: works' in out
    rows = json.loads((tmp_path / 'rows.json').read_text())
    assert rows[0] == old and [row['result'] for row in rows[1:]] == ['refused', 'works']
    page = (tmp_path / 'page.md').read_text()
    assert '1 of 2 work; 1 are refused' in page
    assert '| yolof | `yolof/yolof_r50-c5_8xb8-1x_coco.py` | works |' in page
    # what is there is not tried again
    assert '2/2' not in run_tool(TOOL, *args)
    assert json.loads((tmp_path / 'rows.json').read_text()) == rows
