"""What the command-line tools share."""

from __future__ import annotations

import argparse
import contextlib
import os
import os.path as osp
import sys
import traceback
from collections.abc import Iterator

import lisa_mm

from .environment import check_foundation

# The tools come here first: without MMEngine all that follows fails, and not in one line.
try:
    check_foundation()
except ImportError as error:
    sys.exit(f'ImportError: {error}')

from mmengine.config import Config, DictAction  # noqa: E402
from mmengine.device import get_device  # noqa: E402
from mmengine.registry import RUNNERS  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from lisa_mm.engine import CheckWeightsHook  # noqa: E402

from .checkpoint import load_weights_only  # noqa: E402
from .config import DATA_ROOT_VARIABLES, load_config  # noqa: E402
from .distributed import prepare_for_cpu  # noqa: E402


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all tools on configs have.

    Args:
        description: What the tool does.

    Returns:
        ArgumentParser: With ``config``, ``--work-dir``, ``--data-root``,
        ``--cfg-options`` and ``--launcher``.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file of MMDetection, MMSegmentation or MMPretrain')
    parser.add_argument(
        '--work-dir', help='folder of logs and checkpoints; work_dirs/NAME_OF_CONFIG by default'
    )
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help='folder of the data, for all loaders and evaluators; by default what the config '
        f'says, or one of the environment variables {", ".join(DATA_ROOT_VARIABLES)}',
    )
    parser.add_argument(
        '--image-folder',
        metavar='DIR',
        help='for classifiers: train and test on the images in DIR/train/CLASS/ and '
        'DIR/val/CLASS/ instead of the data of the config',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings to override, by their dotted names; an index stands for an element of a '
        'list: train_dataloader.dataset.pipeline.2.scale="(256,256)"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher; none by default',
    )
    # torch.distributed.launch passes it to every process
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def read_config(args: argparse.Namespace) -> Config:
    """Read the config that the arguments of :func:`make_parser` describe."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options, args.data_root, args.image_folder)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    return cfg


def build_runner(cfg: Config) -> Runner:
    """Build the runner that a config names, MMEngine's own if it names none.

    It refuses checkpoints that have nothing to do with the model, and, unless a
    training is to be resumed, reads them as weights only.
    """
    if not cfg.get('resume'):
        load_weights_only()
    if cfg.get('launcher', 'none') != 'none' and get_device() == 'cpu':
        prepare_for_cpu(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.register_hook(CheckWeightsHook())
    return runner


@contextlib.contextmanager
def one_line_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Let the errors that this package's own checks raise end the program in one line.

    Errors from elsewhere keep their traceback.

    Args:
        *kinds: Errors that are meant; by default all that checks raise.
    """
    kinds = kinds or (ImportError, OSError, TypeError, ValueError)
    try:
        yield
    except kinds as error:
        raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
        if not raised_in.startswith(osp.dirname(lisa_mm.__file__)):
            raise
        sys.exit(f'{type(error).__name__}: {error}')
