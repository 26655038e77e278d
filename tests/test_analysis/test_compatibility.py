import pytest

from lisa_mm.analysis.compatibility import (
    check_swap,
    decode_head_families,
    detector_families,
    train_and_predict,
)
from lisa_mm.utils.config import load_config


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
@pytest.mark.parametrize('families', [detector_families, decode_head_families])
def test_most_families_work(families):
    found = {name: check_swap(config) for name, config in families()}
    fails = {name: row['reason'] for name, row in found.items() if row['result'] == 'fails'}
    works = [name for name, row in found.items() if row['result'] == 'works']
    assert len(works) > 0.75 * len(found), fails
