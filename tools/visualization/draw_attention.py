"""Look into a trained LiSA backbone: pictures of its tables, patterns, kernels and features.

Writes tables.png, patterns.png, kernels.png, features.png and receptive_field.png. Runs on a CPU.
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import DictAction

from lisa_mm.analysis import effective_receptive_field
from lisa_mm.analysis.inspection import (
    attentions_of,
    find_backbone,
    load_model,
    preprocess,
    read_image,
)
from lisa_mm.models import StructureAwareAttention
from lisa_mm.utils.cli import one_line_errors
from lisa_mm.utils.config import load_config
from lisa_mm.visualization import (
    draw_features,
    draw_kernels,
    draw_patterns,
    draw_receptive_fields,
    draw_tables,
)

PICTURES = ('tables', 'patterns', 'kernels', 'features', 'receptive_field')


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or CODEBASE::NAME')
    parser.add_argument('image', type=Path, help='an image')
    parser.add_argument('--checkpoint', help='checkpoint file; random weights without')
    parser.add_argument(
        '--out', type=Path, default='pictures', help='folder to write to; pictures by default'
    )
    parser.add_argument(
        '--only',
        nargs='+',
        choices=PICTURES,
        metavar='PICTURE',
        help=f'of {", ".join(PICTURES)}; by default all that the attention has',
    )
    parser.add_argument(
        '--size',
        type=int,
        help='shorter side of the image, in pixels; what it is by default. Both sides are '
        'rounded to multiples of 32',
    )
    parser.add_argument(
        '--pixel',
        type=int,
        nargs=2,
        metavar=('X', 'Y'),
        help='whose kernels to draw, in the image as resized; the middle by default',
    )
    parser.add_argument(
        '--block', type=int, default=-1, help='which block of each stage; -1, the last, by default'
    )
    parser.add_argument('--heads', type=int, default=2, help='heads to draw; 2 by default')
    parser.add_argument('--data-root', help='for configs that read the classes from the data')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def possible_pictures(backbone):
    """Return those that make sense for the attention of a backbone; say what is left out."""
    attentions = attentions_of(backbone).values()
    possible = {
        'tables': any(isinstance(one, StructureAwareAttention) for one in attentions),
        'patterns': any(isinstance(one, StructureAwareAttention) for one in attentions),
        'kernels': any(hasattr(one, 'kernels') for one in attentions),
    }
    kinds = ', '.join(sorted({type(one).__name__ for one in attentions}))
    for name, there in possible.items():
        if not there:
            print(f'left out {name}.png: {kinds} has none')
    return [name for name in PICTURES if possible.get(name, True)]


def main():
    args = parse_args()
    if not args.image.is_file():
        sys.exit(f'there is no image {args.image}')
    for name in ('heads', 'size'):
        if (value := getattr(args, name)) is not None and value < 1:
            sys.exit(f'--{name} must be at least 1, got {value}')
    with one_line_errors():
        cfg = load_config(args.config, args.cfg_options, args.data_root)
        model = load_model(cfg, args.checkpoint)
        backbone = find_backbone(model)
        image = read_image(args.image, args.size)
    inputs = preprocess(model, image)
    chosen = args.only or possible_pictures(backbone)
    if args.pixel and not all(0 <= n < side for n, side in zip(args.pixel, image.shape[1::-1])):
        sys.exit(
            f'--pixel must be on the image of {image.shape[1]} x {image.shape[0]} pixels, '
            f'got {tuple(args.pixel)}'
        )
    where = dict(block=args.block, num_heads=args.heads)
    draw = {
        'tables': lambda: draw_tables(backbone, **where),
        'patterns': lambda: draw_patterns(backbone, image, inputs, **where),
        'kernels': lambda: draw_kernels(
            backbone, image, inputs, args.pixel and tuple(args.pixel), **where
        ),
        'features': lambda: draw_features(backbone, image, inputs, args.block),
        'receptive_field': lambda: draw_receptive_fields(
            effective_receptive_field(backbone, [inputs])
        ),
    }
    for name in chosen:
        path = args.out / f'{name}.png'
        with one_line_errors():
            figure = draw[name]()
            args.out.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, bbox_inches='tight')
        print(f'{path}', flush=True)


if __name__ == '__main__':
    main()
