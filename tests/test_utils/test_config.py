import os
from pathlib import Path

import pytest
from mmengine.config import Config

from lisa_mm.utils import config as config_module
from lisa_mm.utils.config import (
    check_data,
    enable_amp,
    enable_auto_scale_lr,
    enable_dump,
    enable_tta,
    enable_visualization,
    iter_datasets,
    load_config,
    set_checkpoint,
    set_data_root,
    use_image_folder,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def detector():
    """The parts of a detector's config that the functions look at."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=('img_id',)),
    ]
    dataset = dict(
        type='CocoDataset',
        data_root='data/coco/',
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        pipeline=pipeline,
    )
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(type='RetinaNet'),
            train_dataloader=dict(
                dataset=dict(type='ConcatDataset', datasets=[dataset, dict(dataset)])
            ),
            val_dataloader=dict(dataset=dataset),
            test_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=dataset)),
            val_evaluator=dict(type='CocoMetric', ann_file='data/coco/annotations/val.json'),
            test_evaluator=[dict(type='CocoMetric', ann_file='data/coco/annotations/val.json')],
            default_hooks=dict(visualization=dict(type='DetVisualizationHook')),
            optim_wrapper=dict(type='OptimWrapper'),
            visualizer=dict(type='DetLocalVisualizer'),
        )
    )


def test_iter_datasets_looks_into_wrappers(detector):
    assert len(list(iter_datasets(detector.train_dataloader))) == 2
    assert len(list(iter_datasets(detector.test_dataloader))) == 1
    assert list(iter_datasets(None)) == []


def test_set_data_root_reaches_all_loaders_and_evaluators(detector):
    set_data_root(detector, '/elsewhere')
    for split in ('train', 'val', 'test'):
        for dataset in iter_datasets(detector[f'{split}_dataloader']):
            assert dataset.data_root == '/elsewhere'
    assert detector.val_evaluator.ann_file == '/elsewhere/annotations/val.json'
    assert detector.test_evaluator[0].ann_file == '/elsewhere/annotations/val.json'


def test_set_data_root_leaves_files_of_other_folders(detector):
    detector.val_evaluator.ann_file = 'other/val.json'
    set_data_root(detector, '/elsewhere')
    assert detector.val_evaluator.ann_file == 'other/val.json'


def test_check_data(detector, tmp_path):
    with pytest.raises(FileNotFoundError, match='the val data are not there: data/coco/ does not'):
        check_data(detector, ('val',))
    set_data_root(detector, str(tmp_path))
    (tmp_path / 'val').mkdir()
    with pytest.raises(FileNotFoundError, match=r'annotations/val.json does not .* --data-root'):
        check_data(detector, ('train',))
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations' / 'val.json').touch()
    check_data(detector, ('train', 'val', 'test'))


def test_check_data_names_the_variable_that_the_config_reads(monkeypatch):
    monkeypatch.setenv('CUSTOM_ROOT', 'nowhere')
    cfg = load_config(str(ROOT / 'configs/upernet_lisa_t_custom.py'))
    with pytest.raises(FileNotFoundError, match='the folder with --data-root or CUSTOM_ROOT$'):
        check_data(cfg, ('val',))


def test_load_config(tmp_path, monkeypatch):
    monkeypatch.setenv('COCO_ROOT', 'unused')
    path = tmp_path / 'config.py'
    path.write_text(
        "default_scope = 'mmdet'\n"
        "data_root = '{{$COCO_ROOT:data/coco/}}'\n"
        'val_dataloader = dict(dataset=dict(data_root=data_root, ann_file="a"))\n'
        'val_evaluator = dict(ann_file=data_root + "/a", metric="bbox")\n'
    )
    cfg = load_config(str(path), {'val_evaluator.metric': 'segm'}, data_root='C:/new data')
    assert cfg.val_dataloader.dataset.data_root == 'C:/new data'
    assert cfg.val_evaluator.ann_file == 'C:/new data/a'
    assert cfg.val_evaluator.metric == 'segm'
    assert os.environ['COCO_ROOT'] == 'unused'
    with pytest.raises(ValueError, match="must not have quotes in its name, got /x/bob's"):
        load_config(str(path), data_root="/x/bob's")


@pytest.mark.parametrize(
    ('text', 'error', 'message'),
    [
        (None, FileNotFoundError, 'there is no config file .*config.py'),
        ('a = 1', ValueError, 'default_scope of .* must be one of mmdet, mmseg, .* got None'),
        ("default_scope = 'mmpose'", ValueError, "got 'mmpose'"),
    ],
)
def test_load_config_errors(tmp_path, text, error, message):
    path = tmp_path / 'config.py'
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=message):
        load_config(str(path))


@pytest.mark.parametrize(
    ('codebase', 'base'),
    [
        ('mmdet', "'mmdet::_base_/default_runtime.py'"),
        ('mmseg', "__import__('mmseg').__path__[0] + '/.mim/configs/_base_/default_runtime.py'"),
    ],
)
def test_missing_codebase_comes_with_a_command(tmp_path, monkeypatch, codebase, base):
    def check_codebase(name):
        raise ImportError(f'{name} is not installed. Install it: pip install ...')

    def fromfile(path):
        # what MMEngine, and Python, say
        raise ModuleNotFoundError(f'{codebase} is not installed, please install {codebase}')

    monkeypatch.setattr(config_module, 'check_codebase', check_codebase)
    monkeypatch.setattr(config_module.Config, 'fromfile', fromfile)
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = {base}')
    with pytest.raises(ImportError, match=f'^{codebase} is not installed. Install it: pip'):
        load_config(str(path))


def test_amp_needs_an_accelerator(detector, monkeypatch):
    monkeypatch.setattr(config_module, 'get_device', lambda: 'cpu')
    with pytest.raises(ValueError, match='needs a GPU, and there is none: leave out --amp'):
        enable_amp(detector)
    monkeypatch.setattr(config_module, 'get_device', lambda: 'cuda')
    enable_amp(detector)
    assert detector.optim_wrapper == dict(type='AmpOptimWrapper', loss_scale='dynamic')


def test_auto_scale_lr(detector):
    with pytest.raises(ValueError, match='has no auto_scale_lr=dict'):
        enable_auto_scale_lr(detector)
    detector.auto_scale_lr = dict(base_batch_size=16)
    enable_auto_scale_lr(detector)
    assert detector.auto_scale_lr.enable


def test_tta_of_a_box_detector(detector):
    enable_tta(detector)
    assert detector.model.type == 'DetTTAModel'
    assert detector.model.module == dict(type='RetinaNet')
    (dataset,) = iter_datasets(detector.test_dataloader)
    flips, (pack,) = dataset.pipeline[-1].transforms
    assert [flip.prob for flip in flips] == [0, 1]
    assert pack.meta_keys == ('img_id', 'flip', 'flip_direction')
    assert dataset.pipeline[-1].type == 'TestTimeAug'
    assert len(dataset.pipeline) == 3


def test_tta_takes_what_the_config_names(detector):
    detector.default_scope = 'mmseg'
    detector.tta_model = dict(type='SegTTAModel')
    detector.tta_pipeline = [dict(type='Mine')]
    enable_tta(detector)
    assert detector.model == dict(type='SegTTAModel', module=dict(type='RetinaNet'))
    (dataset,) = iter_datasets(detector.test_dataloader)
    assert dataset.pipeline == [dict(type='Mine')]


def test_tta_refuses_mask_models(detector):
    detector.test_dataloader.dataset.dataset.pipeline[1].with_mask = True
    with pytest.raises(ValueError, match='cannot merge instance masks: .* Leave out --tta'):
        enable_tta(detector)


def test_visualization(detector):
    enable_visualization(detector, show=False, show_dir='drawn', wait_time=1.0)
    hook = detector.default_hooks.visualization
    assert hook.draw and hook.test_out_dir == os.path.abspath('drawn') and not hook.show
    detector.default_scope = 'mmpretrain'
    enable_visualization(detector, show=False, show_dir='drawn', wait_time=1.0)
    assert hook.enable and hook.out_dir == os.path.abspath('drawn')
    detector.default_scope = 'mmseg'
    enable_visualization(detector, show=True, show_dir='drawn', wait_time=1.0)
    assert hook.show and detector.visualizer.save_dir == os.path.abspath('drawn')
    detector.default_hooks = {}
    with pytest.raises(ValueError, match='no default_hooks.visualization'):
        enable_visualization(detector, show=True, show_dir=None, wait_time=1.0)


def test_dump(detector):
    with pytest.raises(ValueError, match='--out must be a .pkl file, got out.json'):
        enable_dump(detector, 'out.json')
    enable_dump(detector, 'out.pkl')
    assert detector.test_evaluator[1] == dict(type='DumpDetResults', out_file_path='out.pkl')
    detector.default_scope = 'mmseg'
    detector.test_evaluator = dict(type='IoUMetric')
    with pytest.raises(ValueError, match='must be a folder, got the file out.pkl'):
        enable_dump(detector, 'out.pkl')
    enable_dump(detector, 'out')
    assert detector.test_evaluator == dict(type='IoUMetric', output_dir='out', keep_results=True)


def test_checkpoint(detector, tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no checkpoint file nowhere.pth'):
        set_checkpoint(detector, 'nowhere.pth')
    (tmp_path / 'a.pth').touch()
    set_checkpoint(detector, str(tmp_path / 'a.pth'))
    assert detector.load_from == str(tmp_path / 'a.pth')


@pytest.fixture
def image_folder(tmp_path):
    for split in ('train', 'val'):
        for name in ('rose', 'daisy', 'tulip'):
            (tmp_path / split / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def classifier():
    dataset = dict(type='ImageNet', data_root='data/imagenet', split='train', pipeline=['a', 'b'])
    loader = dict(batch_size=2, dataset=dataset)
    return Config(
        dict(
            default_scope='mmpretrain',
            data_preprocessor=dict(num_classes=1000, mean=[0, 0, 0]),
            model=dict(
                head=dict(type='LinearClsHead', num_classes=1000, loss=dict(num_classes=1000)),
                train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8, num_classes=1000)]),
            ),
            train_dataloader=loader,
            val_dataloader=loader,
            test_dataloader=loader,
            val_evaluator=dict(type='Accuracy', topk=(1, 5)),
            test_evaluator=dict(type='Accuracy', topk=(1, 2)),
        )
    )


def test_use_image_folder(classifier, image_folder):
    use_image_folder(classifier, str(image_folder))
    for split in ('train', 'val', 'test'):
        assert classifier[f'{split}_dataloader'].dataset == dict(
            type='CustomDataset',
            data_root=str(image_folder),
            data_prefix='train' if split == 'train' else 'val',
            classes=['daisy', 'rose', 'tulip'],
            pipeline=['a', 'b'],
        )
        assert classifier[f'{split}_dataloader'].batch_size == 2
    assert classifier.data_preprocessor.num_classes == 3
    assert classifier.model.head.num_classes == 3
    assert classifier.model.head.loss.num_classes == 3
    assert classifier.model.train_cfg.augments[0].num_classes == 3
    assert classifier.val_evaluator.topk == (1,)
    assert classifier.test_evaluator.topk == (1, 2)


def test_use_image_folder_refuses(classifier, detector, image_folder):
    message = (
        'for classifiers with a head that has num_classes, .* config of mmdet with the head None'
    )
    with pytest.raises(ValueError, match=message):
        use_image_folder(detector, str(image_folder))
    (image_folder / 'val' / 'aster').mkdir()
    (image_folder / 'val' / 'rose').rmdir()
    with pytest.raises(ValueError, match=r"the same classes, and differ in \['aster', 'rose'\]"):
        use_image_folder(classifier, str(image_folder))
    with pytest.raises(FileNotFoundError, match='there is no folder .*nowhere'):
        use_image_folder(classifier, str(image_folder / 'nowhere'))


def test_options_come_after_the_image_folder(image_folder):
    cfg = load_config(
        'mmpretrain::resnet/resnet50_32xb64-warmup-lbs_in1k.py',
        {'train_dataloader.dataset.data_prefix': 'other'},
        image_folder=str(image_folder),
    )
    assert cfg.train_dataloader.dataset.data_prefix == 'other'
    assert cfg.model.head.num_classes == cfg.model.head.loss.num_classes == 3


def test_configs_of_the_codebases():
    cfg = load_config('mmpretrain::resnet/resnet18_8xb32_in1k.py')
    assert cfg.model.backbone.depth == 18
    assert (
        load_config('mmseg::fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py').default_scope == 'mmseg'
    )
    with pytest.raises(FileNotFoundError, match='mmdet has no config nothing.py; they are in '):
        load_config('mmdet::nothing.py')
    with pytest.raises(ValueError, match='starts with one of mmdet, mmseg, mmpretrain and ::, got'):
        load_config('timm::resnet.py')
