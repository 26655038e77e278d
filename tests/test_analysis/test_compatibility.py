import json
from pathlib import Path

import pytest

from lisa_mm.analysis.compatibility import (
    check_swap,
    train_and_predict,
)
from lisa_mm.utils.config import load_config

RESULTS = Path(__file__).parents[2] / 'docs/benchmarks/compatibility.json'
ROWS = [row for row in json.loads(RESULTS.read_text()) if row['result'] == 'works']


def test_check_tells_what_works_and_why_not():
    works = check_swap('mmpretrain::resnet/resnet18_8xb32_in1k.py')
    assert works == dict(result='works', reason='')
    refused = check_swap('mmseg::setr/setr_vit-l_naive_8xb1-80k_cityscapes-768x768.py')
    assert refused['result'] == 'refused' and 'strides [16, 16, 16, 16]' in refused['reason']
    missing = check_swap('mmdet::no/such.py')
    assert missing['result'] == 'fails' and missing['reason'].startswith('reading the config: ')


def test_a_loss_that_is_not_finite_is_found():
    cfg = load_config('mmpretrain::resnet/resnet18_8xb32_in1k.py')
    cfg.model.head.loss.loss_weight = float('inf')
    with pytest.raises(ValueError, match='the loss is'):
        train_and_predict(cfg)


@pytest.mark.slow
@pytest.mark.parametrize('row', ROWS, ids=[row['family'] for row in ROWS])
def test_what_has_worked_works(row):
    """Every family that docs/compatibility.md says works."""
    assert check_swap(row['config'], row['arch']) == dict(result='works', reason='')
