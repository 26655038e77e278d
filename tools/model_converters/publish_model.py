"""Make a small, safe checkpoint for others: weights only, with the hash in its name."""

import argparse
import hashlib
import os
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
    # under its name only once it is whole
    with tempfile.NamedTemporaryFile(dir=out.parent, suffix='.pth', delete=False) as file:
        torch.save(published, file)
    digest = hashlib.sha256(Path(file.name).read_bytes()).hexdigest()[:8]
    target = out.with_name(f'{out.stem}-{digest}.pth')
    torch.load(file.name, weights_only=True)  # as any PyTorch reads it, with nothing allowed for
    os.chmod(file.name, 0o644)
    os.replace(file.name, target)
    return target


def main():
    args = parse_args()
    with one_line_errors():
        if args.trust:
            checkpoint = torch.load(args.checkpoint, map_location='cpu', weights_only=False)
        else:
            checkpoint = load_checkpoint(args.checkpoint)
    target = publish(checkpoint, args.out)
    before, after = (os.path.getsize(path) / 2**20 for path in (args.checkpoint, target))
    print(f'{target}: {after:.1f} MiB of {before:.1f}')


if __name__ == '__main__':
    main()
