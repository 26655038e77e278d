"""Test a model: mAP of a detector, mIoU of a segmenter, accuracy of a classifier."""

from lisa_mm.utils.checkpoint import CheckpointError
from lisa_mm.utils.cli import build_runner, make_parser, one_line_errors, read_config
from lisa_mm.utils.config import (
    check_data,
    enable_dump,
    enable_tta,
    enable_visualization,
    set_checkpoint,
)
from lisa_mm.utils.distributed import end_process


def parse_args():
    parser = make_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out',
        help='where to write the predictions: a .pkl file, for a segmenter a folder of label maps',
    )
    parser.add_argument('--show', action='store_true', help='show the predictions in windows')
    parser.add_argument('--show-dir', help='folder to draw the predictions into, from here')
    parser.add_argument(
        '--wait-time', type=float, default=2.0, help='seconds that a window stays; 2 by default'
    )
    parser.add_argument(
        '--tta', action='store_true', help='test with augmentation (flips); not instance masks'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    with one_line_errors():
        cfg = read_config(args)
        check_data(cfg, ('test',))
        set_checkpoint(cfg, args.checkpoint)
        if args.show or args.show_dir:
            enable_visualization(cfg, args.show, args.show_dir, args.wait_time)
        if args.tta:
            enable_tta(cfg)
        if args.out:
            enable_dump(cfg, args.out)
        runner = build_runner(cfg)
    # the weights are read in the course of it
    with one_line_errors(CheckpointError, FileNotFoundError):
        runner.test()
    end_process()


if __name__ == '__main__':
    main()
