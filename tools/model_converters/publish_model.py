"""Make a small, safe checkpoint for others: weights only, with the hash in its name."""

import argparse
import hashlib
import os
import pickle
import sys
import tempfile
from pathlib import Path

import torch

import lisa_mm
from lisa_mm.utils.checkpoint import load_checkpoint, state_dict_of
from lisa_mm.utils.cli import one_line_errors


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='checkpoint of a training')
    parser.add_argument(
        'out', type=Path, help='file to write, such as lisa_s.pth: becomes lisa_s-0a1b2c3d.pth'
    )
    parser.add_argument(
        '--trust',
        action='store_true',
        help='read a checkpoint that holds more than weights, of your own: that may run code in it',
    )
    return parser.parse_args()


def publish(checkpoint, out):
    """Write what others need of a checkpoint; returns the path."""
    meta = checkpoint.get('meta', {})
    published = dict(
        meta={key: meta[key] for key in ('cfg', 'dataset_meta', 'epoch', 'iter') if key in meta},
        state_dict=state_dict_of(checkpoint),
    )
    published['meta']['lisa_mm_version'] = lisa_mm.__version__
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        path = Path(folder, 'weights.pth')
        torch.save(published, path)
        try:  # as any PyTorch reads it, with nothing let through
            torch.load(path, weights_only=True)
        except pickle.UnpicklingError:
            del published['meta']['dataset_meta']  # which may hold arrays
            torch.save(published, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        target = out.with_name(f'{out.stem}-{digest}.pth')
        os.replace(path, target)
    return target


def main():
    args = parse_args()
    with one_line_errors():
        if not args.trust:
            checkpoint = load_checkpoint(args.checkpoint)
        elif os.path.isfile(args.checkpoint):
            checkpoint = torch.load(args.checkpoint, map_location='cpu', weights_only=False)
        else:
            sys.exit(f'there is no checkpoint file {args.checkpoint}')
        target = publish(checkpoint, args.out)
    print(f'{target}: {os.path.getsize(target) / 2**20:.1f} MiB')


if __name__ == '__main__':
    main()
