"""Put LiSA in the place of the backbone of any config of MMDetection, MMSegmentation, MMPretrain.

Writes a config that stands alone, and says what it changed.
"""

import argparse
import sys
from pathlib import Path

from lisa_mm.utils.cli import one_line_errors
from lisa_mm.utils.config import check_checkpoint, load_config
from lisa_mm.utils.swap_backbone import swap_backbone


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'config',
        help='config file, or one of an installed codebase: mmdet::NAME, mmseg::NAME, '
        'mmpretrain::NAME',
    )
    parser.add_argument('--arch', default='small', help='small by default')
    parser.add_argument(
        '--checkpoint', help='checkpoint of a classifier on LiSA; from scratch by default'
    )
    parser.add_argument(
        '--out', type=Path, help='where to write the config; NAME_lisa_ARCH.py here by default'
    )
    parser.add_argument('--force', action='store_true', help='replace a file that is there already')
    return parser.parse_args()


def main():
    args = parse_args()
    out = args.out or Path(f'{Path(args.config).stem}_lisa_{args.arch}.py')
    if out.suffix != '.py':
        sys.exit(f'--out must be a .py file, got {out}')
    with one_line_errors():
        if args.checkpoint is not None:
            check_checkpoint(args.checkpoint)
        cfg = load_config(args.config)
        changes = swap_backbone(cfg, args.arch, args.checkpoint)
    if out.exists() and not args.force:
        sys.exit(f'{out} is there already: choose another --out, or replace it with --force')
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(cfg.pretty_text)
    print('\n'.join(changes))
    print(f'written to {out}')


if __name__ == '__main__':
    main()
