"""Count the multiply-adds, parameters and activations of a model of any codebase, without data."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.registry import MODELS, init_default_scope

from lisa_mm.analysis import count_complexity
from lisa_mm.analysis.benchmark import markdown_table
from lisa_mm.utils.cli import one_line_errors
from lisa_mm.utils.config import load_config


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'config',
        help='config file, or one of an installed codebase: mmdet::NAME, mmseg::NAME, '
        'mmpretrain::NAME',
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        help='height and width of the image, or one number for both; by default 224 for '
        'classifiers, 512 for segmenters, 800 1280 for detectors',
    )
    parser.add_argument('--out', type=Path, help='write the table to this .json file, too')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


DEFAULT_SHAPES = {'mmpretrain': (224, 224), 'mmseg': (512, 512), 'mmdet': (800, 1280)}


def make_inputs(scope, shape):
    """Return what ``model(..., mode='tensor')`` of a codebase takes: an image and its sample."""
    images = torch.zeros(1, 3, *shape)
    if scope == 'mmpretrain':
        return images, None
    if scope == 'mmdet':
        from mmdet.structures import DetDataSample as DataSample
    else:
        from mmseg.structures import SegDataSample as DataSample
    meta = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), shape)
    return images, [DataSample(metainfo=dict(meta, scale_factor=(1.0, 1.0)))]


def main():
    args = parse_args()
    with one_line_errors():
        cfg = load_config(args.config, args.cfg_options)
    shape = tuple(args.shape or DEFAULT_SHAPES[cfg.default_scope])
    if len(shape) > 2 or min(shape) < 1:
        sys.exit(f'--shape takes one or two positive numbers, got {args.shape}')
    shape = shape * 2 if len(shape) == 1 else shape
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)  # detectors spend what their first stage finds
    with one_line_errors():
        model = MODELS.build(cfg.model).eval()
    images, samples = make_inputs(cfg.default_scope, shape)
    parts = count_complexity(model, lambda: model(images, samples, mode='tensor'))
    lines = (
        [
            part.name,
            f'{part.parameters / 1e6:.2f} M',
            f'{part.multiply_adds / 1e9:.2f} G',
            f'{part.activations / 1e6:.1f} M',
        ]
        for part in parts
        if part.multiply_adds
    )
    header = [f'{shape[0]} x {shape[1]}', 'parameters', 'multiply-adds', 'activations']
    print(markdown_table(header, lines))
    if args.out:
        result = dict(config=args.config, shape=shape, parts=[asdict(part) for part in parts])
        args.out.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
