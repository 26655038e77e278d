"""Write the shapes data set, a small instance segmentation set in COCO's format."""

import argparse
import sys

from lisa_mm.datasets import generate_shapes


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('out', metavar='OUT', help='folder to write, absent or empty')
    parser.add_argument('--num-train', type=int, default=400, help='number of training images')
    parser.add_argument('--num-val', type=int, default=100, help='number of validation images')
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        default=(128, 128),
        metavar=('H', 'W'),
        help='height and width of the images in pixels',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of all random choices')
    return parser.parse_args(argv)


def show_progress(done, total):
    end = '\n' if done == total else ''
    print(f'\r{done}/{total} images', end=end, file=sys.stderr, flush=True)


def main(argv=None):
    args = parse_args(argv)
    try:
        root = generate_shapes(
            args.out, args.num_train, args.num_val, args.image_size, args.seed, show_progress
        )
    except (OSError, ValueError) as error:
        sys.exit(f'make_shapes.py: error: {error}')
    except KeyboardInterrupt:
        sys.exit('\nmake_shapes.py: interrupted, nothing written')
    print(f'The shapes data set is in {root}')


if __name__ == '__main__':
    main()
