from pathlib import Path

import pytest
from mmengine.config import Config

from lisa_mm.analysis.comparison import length_of, set_length, summarise
from lisa_mm.utils.config import load_config

CONFIGS = Path(__file__).parents[2] / 'configs'


def run(variant, seed, score, **kwargs):
    row = dict(variant=variant, seed=seed, data='d', score=score, loss=1.0, parameters=2e6)
    return dict(row, epochs=3, iterations=30, device='A') | kwargs


def cost(variant, size, mode, seconds):
    row = dict(variant=variant, size=size, mode=mode, seconds=seconds, peak_bytes=2**21)
    return dict(row, parameters=1e6, multiply_adds=3e9)


def test_means_and_differences():
    trained = [run('a', 0, 10.0), run('b', 0, 11.0), run('a', 1, 14.0), run('b', 1, 16.0)]
    trained += [run('c', 1, 20.0)]
    table = summarise(trained, [], ['score'], 'a')
    assert [line['variant'] for line in table] == ['c', 'b', 'a']
    assert [line['score'] for line in table] == [20, 13.5, 12]
    assert table[1]['score, deviation'] == pytest.approx(12.5**0.5)
    assert table[0]['score, deviation'] is None  # one seed
    # of the same seeds, so that what they have in common drops out
    assert [line['score, difference to a'] for line in table] == [6, 1.5, None]
    assert table[1]['score, standard error of the difference'] == pytest.approx(0.5)
    assert all(set(line) == set(table[0]) for line in table)


def test_lengths_and_devices_are_kept_apart():
    trained = [run('a', 0, 1.0), run('a', 0, 2.0, epochs=6, iterations=60)]
    trained += [run('a', 0, 4.0, device='B'), run('b', 0, 5.0, device='B')]
    trained += [run('b', 0, 7.0, data='e')]
    table = summarise(trained, [], ['score'], 'a')
    assert [line['score'] for line in table if line['data'] == 'e'] == [7]
    table = [line for line in table if line['data'] == 'd']
    found = {(line['variant'], line['epochs'], line['device']): line for line in table}
    assert len(found) == 4 and all(line['seeds'] == 1 for line in table)
    assert found['b', 3, 'B']['score, difference to a'] == 1
    versions = [run('a', 0, 1.0, lisa_mm='0.1'), run('a', 0, 2.0, lisa_mm='0.2')]
    assert [line['seeds'] for line in summarise(versions, [], ['score'], 'a')] == [1, 1]


def test_differences_are_to_the_baseline_whatever_came_first():
    trained = [run('b', 0, 3.0), run('a', 0, 1.0), run('c', 1, 9.0)]
    table = summarise(trained, [], ['score'], 'a')
    differences = {line['variant']: line['score, difference to a'] for line in table}
    assert differences == {'a': None, 'b': 2, 'c': None}  # of another seed


def test_a_seed_counts_once():
    assert summarise([run('a', 0, 1.0), run('a', 0, 1.0)], [], ['score'], 'a')[0]['seeds'] == 1


def test_costs_stand_beside_what_is_reached():
    costs = [cost('a', [32, 64], 'inference', 0.5), cost('b', [32, 64], 'inference', 0.25)]
    table = summarise([run('a', 0, 1.0)], costs, ['score'], 'a')
    assert [line['inference at 32x64 (ms)'] for line in table] == [500, 250]
    assert [line['inference at 32x64 (MiB)'] for line in table] == [2, 2]
    assert [line['score'] for line in table] == [1, None]
    only_costs = summarise([], costs, ['score'], 'a')
    assert list(only_costs[0])[:2] == ['variant', 'backbone (M)']
    # runs that were not evaluated like this
    assert summarise([run('a', 0, 1.0)], [], ['other'], 'a') == []


def test_schedules_follow_the_length():
    cfg = Config(
        dict(
            train_cfg=dict(max_epochs=12, val_interval=1),
            param_scheduler=[
                dict(type='LinearLR', begin=0, end=500, by_epoch=False),
                dict(type='MultiStepLR', begin=0, end=12, milestones=[8, 11]),
                dict(type='CosineAnnealingLR', T_max=10, begin=2, end=12),
            ],
        )
    )
    assert length_of(cfg) == ('epochs', 12)
    set_length(cfg, 6)
    assert cfg.train_cfg == dict(max_epochs=6, val_interval=6)
    warm_up, steps, cosine = cfg.param_scheduler
    assert warm_up.end == 500
    assert steps.end == 6 and steps.milestones == [4, 6]
    assert (cosine.begin, cosine.end, cosine.T_max) == (1, 6, 5)
    cfg = Config(
        dict(
            train_cfg=dict(max_iters=160, val_interval=16),
            param_scheduler=[dict(type='PolyLR', begin=15, end=160, by_epoch=False)],
        )
    )
    assert length_of(cfg) == ('iterations', 160)
    set_length(cfg, 80)
    assert cfg.train_cfg == dict(max_iters=80, val_interval=80)
    assert cfg.param_scheduler[0].end == 80


REAL = {
    'imagenet': 'lisa_t_imagenet.py',
    'ade20k': 'upernet_lisa_t_ade20k.py',
    'rtmdet': 'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py',
    'yolox': 'mmdet::yolox/yolox_s_8xb8-300e_coco.py',
    'mask2former': 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    'vgg': 'mmpretrain::vgg/vgg16_8xb16_voc.py',
}


@pytest.mark.parametrize(
    ('name', 'length', 'index', 'expected'),
    [
        ('imagenet', 100, 0, dict(end=20)),
        ('imagenet', 100, 1, dict(begin=20)),
        # no room for the warm-up of 20 epochs
        ('imagenet', 12, 0, dict(end=1)),
        ('imagenet', 12, 1, dict(begin=1)),
        ('ade20k', 20000, 1, dict(begin=1500, end=20000)),
        ('ade20k', 1000, 0, dict(end=9)),
        ('ade20k', 1000, 1, dict(begin=9, end=1000)),
        # flat for the first half
        ('rtmdet', 200, 1, dict(begin=100, end=200, T_max=100)),
        ('yolox', 150, 1, dict(begin=5, end=142, T_max=142)),
        ('vgg', 5, 0, dict(step_size=2)),
    ],
)
def test_schedules_of_real_configs(name, length, index, expected):
    path = REAL[name] if '::' in REAL[name] else str(CONFIGS / REAL[name])
    cfg = load_config(path)
    set_length(cfg, length)
    schedulers = cfg.param_scheduler
    scheduler = schedulers if isinstance(schedulers, dict) else schedulers[index]
    assert {key: scheduler[key] for key in expected} == expected


@pytest.mark.parametrize('name', REAL)
def test_their_own_length_is_evaluated_at_the_end_and_else_left_alone(name):
    path = REAL[name] if '::' in REAL[name] else str(CONFIGS / REAL[name])
    cfg, same = load_config(path), load_config(path)
    unit, length = length_of(cfg)
    set_length(cfg, length)
    assert cfg.param_scheduler == same.param_scheduler
    assert length_of(cfg) == (unit, length) and cfg.train_cfg.val_interval == length
    assert 'dynamic_intervals' not in cfg.train_cfg


def test_a_single_scheduler_and_none():
    scheduler = dict(type='PolyLR', end=100, by_epoch=False)
    cfg = Config(dict(train_cfg=dict(max_iters=100), param_scheduler=scheduler))
    set_length(cfg, 10)
    assert cfg.param_scheduler.end == 10
    cfg = Config(dict(train_cfg=dict(max_iters=100)))
    set_length(cfg, 10)
    assert cfg.train_cfg.max_iters == 10
