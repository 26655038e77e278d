"""Train a model: a detector, a segmenter or a classifier, whatever the config describes."""

from lisa_mm.utils.checkpoint import CheckpointError
from lisa_mm.utils.cli import build_runner, make_parser, one_line_errors, read_config
from lisa_mm.utils.config import check_data, enable_amp, enable_auto_scale_lr, set_checkpoint
from lisa_mm.utils.distributed import end_process


def parse_args():
    parser = make_parser(__doc__)
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size, from base_batch_size of the config',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a value, from the latest one in the work dir',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    with one_line_errors():
        cfg = read_config(args)
        check_data(cfg, ('train', 'val'))
        if args.amp:
            enable_amp(cfg)
        if args.auto_scale_lr:
            enable_auto_scale_lr(cfg)
        if args.resume is not None:
            cfg.resume = True
            cfg.load_from = None
            if args.resume != 'auto':
                set_checkpoint(cfg, args.resume)
        runner = build_runner(cfg)
    # the weights are read in the course of it
    with one_line_errors(CheckpointError, FileNotFoundError):
        runner.train()
    end_process()


if __name__ == '__main__':
    main()
