import argparse
import subprocess
import sys

import pytest

from lisa_mm.analysis.benchmark import (
    add_results,
    describe_environment,
    parse_size,
    read_results,
    write_csv,
)


def test_results_are_added_to(tmp_path):
    path = tmp_path / 'results.json'
    assert read_results(path) == []
    add_results(path, [dict(name='a', value=1)])
    assert add_results(path, [dict(name='b', value=2)]) == read_results(path)
    assert [row['name'] for row in read_results(path)] == ['a', 'b']
    assert path.read_text() == '[\n{"name": "a", "value": 1},\n{"name": "b", "value": 2}\n]\n'
    assert list(tmp_path.iterdir()) == [path]
    write_csv(tmp_path / 'results.csv', read_results(path))
    assert (tmp_path / 'results.csv').read_text().split() == ['name,value', 'a,1', 'b,2']


def test_processes_share_a_file(tmp_path):
    path = tmp_path / 'results.json'
    code = (
        'import sys; from lisa_mm.analysis.benchmark import add_results\n'
        'for i in range(50): add_results(sys.argv[1], [dict(i=i)])'
    )
    args = [sys.executable, '-c', code, str(path)]
    for process in [subprocess.Popen(args) for _ in range(2)]:
        assert process.wait() == 0
    assert len(read_results(path)) == 100


def test_environment():
    assert 'CPU' in describe_environment('cpu')['device']


def test_size():
    assert parse_size('800x1333') == (800, 1333)
    with pytest.raises(argparse.ArgumentTypeError, match="written like 56x56, got '56'"):
        parse_size('56')
