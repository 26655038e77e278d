"""Loading and adapting configs, for the tools."""

from __future__ import annotations

import contextlib
import importlib
import os
import os.path as osp
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device

from lisa_mm.datasets import folder_classes

from .environment import CODEBASES, check_codebase

# The environment variables that the data folders of configs/ are read from.
DATA_ROOT_VARIABLES = ('COCO_ROOT', 'ADE20K_ROOT', 'IMAGENET_ROOT', 'CUSTOM_ROOT', 'SHAPES_ROOT')

# What merges the predictions for augmented images, where a config names nothing.
TTA_MODELS = {
    'mmdet': dict(
        type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
    ),
    'mmpretrain': dict(type='AverageClsScoreTTA'),
}

# What MMDetection packs of an image by default, and what predictions are flipped back by.
TEST_META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
FLIP_META_KEYS = ('flip', 'flip_direction')


def load_config(
    path: str,
    cfg_options: dict | None = None,
    data_root: str | None = None,
    image_folder: str | None = None,
) -> Config:
    """Read a config file of any of the codebases, and check what it needs.

    Args:
        path: The config file, or one of an installed codebase:
            ``mmdet::NAME``, ``mmseg::NAME`` or ``mmpretrain::NAME``.
        cfg_options: Settings to override, by their dotted names. Defaults to
            None.
        data_root: Folder of the data, for all loaders and evaluators.
            Defaults to None: as the config says.
        image_folder: Folder of images for a classifier, see
            :func:`use_image_folder`. Defaults to None.

    Returns:
        Config: The config.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If the codebase of the config, or something that it
            needs, is missing or too old.
        ValueError: If the config does not name a codebase by its
            ``default_scope``.
    """
    if '::' in path:
        path = _config_of_codebase(path)
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'there is no config file {path}; those of an installed codebase are named '
            f'{"::, ".join(CODEBASES)}:: and their path in its configs folder'
        )
    try:
        with _data_root_in_environment(data_root):
            cfg = Config.fromfile(path)
    except ImportError as error:
        # MMEngine names the codebase of a base that is missing, but not what to do.
        for codebase in CODEBASES:
            if codebase in str(error) or "'mmcv" in str(error):
                check_codebase(codebase)
        raise
    if image_folder is not None:
        use_image_folder(cfg, image_folder)
    if cfg_options:
        cfg.merge_from_dict(cfg_options)
    scope = cfg.get('default_scope')
    if scope not in CODEBASES:
        raise ValueError(
            f'default_scope of {path} must be one of {", ".join(CODEBASES)}, got {scope!r}'
        )
    check_codebase(scope)
    if data_root is not None:
        set_data_root(cfg, data_root)
    return cfg


def _config_of_codebase(name: str) -> str:
    """Return the path of a config that an installed codebase brings along."""
    codebase, _, config = name.partition('::')
    if codebase not in CODEBASES:
        raise ValueError(
            f'a config of a codebase starts with one of {", ".join(CODEBASES)} and ::, got {name}'
        )
    path = osp.join(config_folder(codebase), config)
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'{codebase} has no config {config}; they are in {config_folder(codebase)}'
        )
    return path


def config_folder(codebase: str) -> str:
    """Return the folder of the configs that an installed codebase brings along.

    Args:
        codebase: ``'mmdet'``, ``'mmseg'`` or ``'mmpretrain'``.

    Raises:
        ImportError: If it is missing or too old.
    """
    check_codebase(codebase)
    package = osp.dirname(importlib.import_module(codebase).__file__)
    installed = osp.join(package, '.mim', 'configs')
    # where a checkout has them
    return installed if osp.isdir(installed) else osp.join(osp.dirname(package), 'configs')


@contextlib.contextmanager
def _data_root_in_environment(data_root: str | None) -> Iterator[None]:
    """Let the configs that are read meanwhile find the data in a folder."""
    if data_root is None:
        yield
        return
    # MMEngine puts it into the text of the config: backslashes, of Windows, are
    # escapes there, and quotes end the string.
    value = Path(data_root).as_posix()
    if any(character in value for character in '\'"\n'):
        raise ValueError(f'the folder of the data must not have quotes in its name, got {value}')
    saved = {name: os.environ.get(name) for name in DATA_ROOT_VARIABLES}
    os.environ.update(dict.fromkeys(DATA_ROOT_VARIABLES, value))
    try:
        yield
    finally:
        for name, old in saved.items():
            if old is None:
                del os.environ[name]
            else:
                os.environ[name] = old


def set_data_root(cfg: Config, data_root: str) -> None:
    """Let all loaders and evaluators read from one folder.

    Args:
        cfg: The config, changed in place.
        data_root: The folder. It takes the place of the ``data_root`` of every
            data set, and of the same folder at the start of the evaluators'
            settings.
    """
    for split in ('train', 'val', 'test'):
        old_roots = set()
        for dataset in iter_datasets(cfg.get(f'{split}_dataloader')):
            old_roots.add(dataset.get('data_root') or '')
            dataset.data_root = data_root
        for evaluator in _as_list(cfg.get(f'{split}_evaluator')):
            for key, value in evaluator.items():
                for root in filter(None, old_roots):
                    if isinstance(value, str) and _is_inside(value, root):
                        evaluator[key] = osp.join(data_root, osp.relpath(value, root))


def use_image_folder(cfg: Config, folder: str) -> None:
    """Let a classifier train and test on images of one's own, a folder per class.

    The number of classes of the head, of the preprocessor and of the batch
    augmentations follows; pipelines and schedule stay.

    Args:
        cfg: The config, changed in place.
        folder: Folder with the images in ``train/CLASS/`` and ``val/CLASS/``.

    Raises:
        FileNotFoundError: If it has no ``train`` and ``val``.
        ValueError: If the config is not that of a classifier, or the two have
            no classes, or other ones.
    """
    head = cfg.get('model', {}).get('head') or {}
    if cfg.get('default_scope') != 'mmpretrain' or 'num_classes' not in head:
        raise ValueError(
            '--image-folder is for classifiers with a head that has num_classes, and this is a '
            f'config of {cfg.get("default_scope")} with the head {head.get("type")}'
        )
    classes = folder_classes(osp.join(folder, 'train'))
    differing = set(classes) ^ set(folder_classes(osp.join(folder, 'val')))
    if differing:
        raise ValueError(
            f'{folder}/train and {folder}/val must have the same classes, and differ in '
            f'{sorted(differing)}'
        )
    for split in ('train', 'val', 'test'):
        for dataset in iter_datasets(cfg.get(f'{split}_dataloader')):
            pipeline = dataset.pipeline
            dataset.clear()
            dataset.update(
                type='CustomDataset',
                data_root=folder,
                data_prefix='train' if split == 'train' else 'val',
                classes=list(classes),
                pipeline=pipeline,
            )
        for evaluator in _as_list(cfg.get(f'{split}_evaluator')):
            if 'topk' in evaluator:
                evaluator.topk = tuple(k for k in evaluator.topk if k < len(classes)) or (1,)
    # in the head, its loss, batch augmentations, the preprocessor
    before = head.num_classes
    for part in (cfg.model, cfg.get('data_preprocessor') or {}):
        replace_values(part, 'num_classes', before, len(classes))


def replace_values(part: Any, key: str, old: Any, new: Any) -> int:
    """Replace a value wherever it stands under a key, in nested dicts and lists.

    Returns:
        int: How often it did.
    """
    if isinstance(part, (list, tuple)):
        return sum(replace_values(item, key, old, new) for item in part)
    if not isinstance(part, dict):
        return 0
    found = int(part.get(key) == old)
    if found:
        part[key] = new
    return found + sum(replace_values(item, key, old, new) for item in part.values())


def check_data(cfg: Config, splits: tuple[str, ...]) -> None:
    """Check that the data that a run will read are there.

    Args:
        cfg: The config.
        splits: Of ``'train'``, ``'val'`` and ``'test'``, those that the run
            will read.

    Raises:
        FileNotFoundError: If a folder or an annotation file is missing, or the
            folder of a segmenter has no images of the kind that it looks for;
            the message names it and says what to set.
    """
    for split in splits:
        for dataset in iter_datasets(cfg.get(f'{split}_dataloader')):
            root = dataset.get('data_root') or ''
            prefix = dataset.get('data_prefix') or {}
            prefixes = prefix.values() if isinstance(prefix, dict) else [prefix]
            ann_file = dataset.get('ann_file') or ''
            for name in [root, *(osp.join(root, p) for p in (*prefixes, ann_file) if p)]:
                if '://' not in name and not osp.exists(name or '.'):
                    # those that its own file or a base of it reads
                    variables = [v for v in DATA_ROOT_VARIABLES if f'{{{{${v}:' in cfg.text]
                    options = ' or '.join(['--data-root', *variables])
                    raise FileNotFoundError(
                        f'the {split} data are not there: {name} does not exist (data_root is '
                        f'{root!r}). Name the folder with {options}'
                    )
            _check_suffix(split, dataset)


def _check_suffix(split: str, dataset: ConfigDict) -> None:
    """Check that MMSegmentation's plain data set, which goes by a suffix, will find images."""
    if dataset.type.split('.')[-1] != 'BaseSegDataset' or dataset.get('ann_file'):
        return
    suffix = dataset.get('img_suffix', '.jpg')
    folder = Path(dataset.get('data_root') or '', dataset.data_prefix.img_path)
    if not any(folder.rglob(f'*{suffix}')):
        raise FileNotFoundError(
            f'the {split} data are not there: {folder} holds no {suffix} files. For images of '
            f'another kind set {split}_dataloader.dataset.img_suffix'
        )


def enable_amp(cfg: Config) -> None:
    """Let a config train in mixed precision.

    Raises:
        ValueError: If there is no accelerator, which MMEngine's wrapper needs.
    """
    if get_device() == 'cpu':
        raise ValueError('mixed-precision training needs a GPU, and there is none: leave out --amp')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def enable_auto_scale_lr(cfg: Config) -> None:
    """Let the learning rate be scaled with the batch size.

    Raises:
        ValueError: If the config does not say what batch size its learning
            rate is for.
    """
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise ValueError(
            'the config has no auto_scale_lr=dict(base_batch_size=...), the batch size that its '
            'learning rate is for: add it, or leave out --auto-scale-lr'
        )
    cfg.auto_scale_lr.enable = True


def enable_tta(cfg: Config) -> None:
    """Let a config be tested with augmentation, flips if it names nothing else.

    Raises:
        ValueError: If the model predicts masks, which MMDetection's
            augmentation cannot merge.
    """
    datasets = list(iter_datasets(cfg.test_dataloader))
    scope = cfg.default_scope
    if scope == 'mmdet' and any(t.get('with_mask') for d in datasets for t in d.pipeline):
        raise ValueError(
            'test-time augmentation cannot merge instance masks: MMDetection has it for models '
            'that predict boxes only. Leave out --tta'
        )
    if scope != 'mmseg':  # whose configs have both
        cfg.setdefault('tta_model', ConfigDict(TTA_MODELS[scope]))
    flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
    for dataset in datasets:
        pipeline = cfg.get('tta_pipeline')
        if pipeline is None:
            *head, pack = dataset.pipeline
            if scope == 'mmdet':
                # what the merged boxes are flipped back by
                keys = pack.get('meta_keys', TEST_META_KEYS)
                pack = dict(pack, meta_keys=(*keys, *FLIP_META_KEYS))
            pipeline = [*head, dict(type='TestTimeAug', transforms=[flips, [pack]])]
        dataset.pipeline = pipeline
    cfg.model = ConfigDict(cfg.tta_model, module=cfg.model)


def enable_visualization(cfg: Config, show: bool, show_dir: str | None, wait_time: float) -> None:
    """Let the visualization hook of a config draw its predictions.

    Args:
        cfg: The config, changed in place.
        show: Whether to show them in a window.
        show_dir: Folder to write them to, or None.
        wait_time: Seconds that a window stays.

    Raises:
        ValueError: If the config has no visualization hook.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise ValueError(
            'the config has no default_hooks.visualization: add the visualization hook of its '
            'codebase, or leave out --show and --show-dir'
        )
    hook.update(show=show, wait_time=wait_time, interval=1)
    hook['enable' if cfg.default_scope == 'mmpretrain' else 'draw'] = True
    show_dir = show_dir and osp.abspath(show_dir)  # or MMDetection puts it into the work dir
    if show_dir and cfg.default_scope == 'mmdet':
        hook.test_out_dir = show_dir
    elif show_dir and cfg.default_scope == 'mmpretrain':
        hook.out_dir = show_dir
    elif show_dir:
        cfg.visualizer.save_dir = show_dir


def check_checkpoint(checkpoint: str) -> None:
    """Check that a checkpoint is there, unless it is an address.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if '://' not in checkpoint and not osp.isfile(checkpoint):
        raise FileNotFoundError(f'there is no checkpoint file {checkpoint}')


def set_checkpoint(cfg: Config, checkpoint: str) -> None:
    """Let a config load its weights from a checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    check_checkpoint(checkpoint)
    cfg.load_from = checkpoint


def enable_dump(cfg: Config, out: str) -> None:
    """Let the evaluators of a config write the predictions.

    Args:
        cfg: The config, changed in place.
        out: A ``.pkl`` file; for a segmenter a folder, for its label maps.

    Raises:
        ValueError: If it is the one where the other is wanted.
    """
    evaluators = _as_list(cfg.test_evaluator)
    is_pickle = out.endswith(('.pkl', '.pickle'))
    if cfg.default_scope == 'mmseg':
        if is_pickle:
            raise ValueError(f'--out of a segmenter must be a folder, got the file {out}')
        for evaluator in evaluators:
            if evaluator.type.endswith('IoUMetric'):
                evaluator.update(output_dir=out, keep_results=True)
        return
    if not is_pickle:
        raise ValueError(f'--out must be a .pkl file, got {out}')
    # MMDetection's encodes the masks.
    dump = 'DumpDetResults' if cfg.default_scope == 'mmdet' else 'DumpResults'
    cfg.test_evaluator = [*evaluators, dict(type=dump, out_file_path=out)]


def iter_datasets(loader: ConfigDict | None) -> Iterator[ConfigDict]:
    """Yield the data sets of a loader's config, those inside wrappers too."""
    pending = [loader.dataset] if loader else []
    while pending:
        dataset = pending.pop()
        inner = dataset.get('datasets') or dataset.get('dataset')
        if inner:
            pending += _as_list(inner)
        else:
            yield dataset


def _as_list(cfgs: ConfigDict | list[ConfigDict] | None) -> list[ConfigDict]:
    return [cfgs] if isinstance(cfgs, dict) else cfgs or []


def _is_inside(path: str, folder: str) -> bool:
    return not osp.relpath(path, folder).startswith(osp.pardir)
