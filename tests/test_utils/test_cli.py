import importlib
import os

import pytest

from lisa_mm.models import LiSA
from lisa_mm.utils import cli, environment
from lisa_mm.utils.cli import make_parser, one_line_errors, read_config


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'my_config.py'
    path.write_text(
        "default_scope = 'mmdet'\nmodel = dict(depth=50)\nlevels = [dict(n=1), dict(n=2)]"
    )
    return str(path)


def test_read_config(config, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '')  # restored afterwards, whatever is set meanwhile
    monkeypatch.delenv('LOCAL_RANK')
    args = [config, '--cfg-options', 'model.depth=18', 'levels.1.n=(3,4)', '--local-rank', '1']
    cfg = read_config(make_parser('A tool.').parse_args(args))
    assert cfg.model.depth == 18
    assert cfg.levels == [dict(n=1), dict(n=(3, 4))]
    assert cfg.launcher == 'none'
    assert cfg.work_dir == os.path.join('work_dirs', 'my_config')
    assert os.environ['LOCAL_RANK'] == '1'


def test_work_dir(config):
    cfg = read_config(make_parser('A tool.').parse_args([config, '--work-dir', 'there']))
    assert cfg.work_dir == 'there'


def test_errors_of_our_own_checks_take_one_line():
    with pytest.raises(SystemExit) as error, one_line_errors():
        LiSA(arch='huge')
    assert str(error.value) == (
        "ValueError: arch must be one of 'tiny', 'small', 'base', 'large', or a dict, got 'huge'"
    )


def test_other_errors_keep_their_traceback():
    with pytest.raises(ValueError, match='from elsewhere'), one_line_errors():
        raise ValueError('from elsewhere')


def test_missing_foundation_takes_one_line(monkeypatch):
    def check_foundation():
        raise ImportError('mmengine is not installed. Install it: pip install mmengine')

    monkeypatch.setattr(environment, 'check_foundation', check_foundation)
    with pytest.raises(SystemExit) as error:
        importlib.reload(cli)
    assert str(error.value) == (
        'ImportError: mmengine is not installed. Install it: pip install mmengine'
    )
