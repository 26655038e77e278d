"""Images per second and memory of LiSA backbones and their peers, on synthetic images.

Every measurement goes into RESULTS.json at once; what is there already is not
measured again. RESULTS.csv and RESULTS.png are made from it.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from mmengine.registry import MODELS

from lisa_mm.analysis.benchmark import (
    describe_environment,
    markdown_table,
    measure_jobs,
    measure_models,
    parse_size,
    write_csv,
)
from lisa_mm.utils.cli import one_line_errors
from lisa_mm.utils.environment import check_codebase
from lisa_mm.visualization.style import series_style

ALL_STAGES = (0, 1, 2, 3)
BACKBONES = {
    'LiSA-tiny': dict(type='lisa_mm.LiSA', arch='tiny'),
    'LiSA-small': dict(type='lisa_mm.LiSA', arch='small'),
    'LiSA-base': dict(type='lisa_mm.LiSA', arch='base'),
    'LiSA-large': dict(type='lisa_mm.LiSA', arch='large'),
    'Swin-T': dict(type='mmdet.SwinTransformer', drop_path_rate=0.0),
    'Swin-S': dict(type='mmdet.SwinTransformer', depths=(2, 2, 18, 2), drop_path_rate=0.0),
    'ConvNeXt-T': dict(
        type='mmpretrain.ConvNeXt',
        arch='tiny',
        out_indices=ALL_STAGES,
        gap_before_final_norm=False,
    ),
    'PVTv2-B2': dict(
        type='mmdet.PyramidVisionTransformerV2',
        embed_dims=64,
        num_layers=(3, 4, 6, 3),
        drop_path_rate=0.0,
    ),
    'HorNet-T-GF': dict(type='mmpretrain.HorNet', arch='tiny-gf', out_indices=ALL_STAGES),
}
SMALL = ('LiSA-tiny', 'LiSA-small', 'Swin-T', 'Swin-S', 'ConvNeXt-T', 'PVTv2-B2', 'HorNet-T-GF')
BASELINE = 'Swin-T'
SIZES = '224x224 512x512 800x1333'
VARIANTS = ('plain', 'autocast', 'channels_last', 'compile')


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('results', type=Path, help='RESULTS.json, added to if it exists')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--backbones',
        nargs='+',
        choices=BACKBONES,
        default=SMALL,
        metavar='NAME',
        help=f'of {", ".join(BACKBONES)}; by default {", ".join(SMALL)}',
    )
    parser.add_argument(
        '--sizes',
        type=parse_size,
        nargs='+',
        default=[parse_size(size) for size in SIZES.split()],
        metavar='HxW',
        help=f'{SIZES} by default',
    )
    parser.add_argument('--batch', type=int, default=1, help='images at a time; 1 by default')
    parser.add_argument(
        '--variants',
        nargs='+',
        choices=VARIANTS,
        default=['plain'],
        help='plain (float32), autocast (bfloat16), channels_last, compile; plain by default',
    )
    parser.add_argument('--repeats', type=int, default=5, help='5 by default')
    parser.add_argument(
        '--budget',
        type=float,
        default=30,
        help='seconds after which a backbone is not repeated; 30 by default',
    )
    return parser.parse_args()


def measure(args, job):
    """Return one row per backbone, all measured in turn."""
    torch.manual_seed(0)
    images = torch.randn(args.batch, 3, *job['size'], device=args.device)
    models = {name: MODELS.build(dict(BACKBONES[name])).to(args.device) for name in args.backbones}
    return measure_models(models, images, job['mode'], job['variant'], args.repeats, args.budget)


def print_tables(rows):
    """Print Markdown, a table for each size, mode and variant."""
    kinds = list(dict.fromkeys((*row['size'], row['mode'], row['variant']) for row in rows))
    for height, width, mode, variant in kinds:
        chosen = [
            row
            for row in rows
            if (*row['size'], row['mode'], row['variant']) == (height, width, mode, variant)
        ]
        base = next((row for row in chosen if row['name'] == BASELINE), None)
        print(f'\n{height}x{width}, {mode}, {variant}, batch {chosen[0]["batch"]}\n')
        header = ['', 'parameters', 'multiply-adds', 'images/s', f'to {BASELINE}', 'peak memory']
        lines = (
            [
                row['name'],
                f'{row["parameters"] / 1e6:.1f} M',
                f'{row["multiply_adds"] / 1e9:.1f} G',
                f'{row["images_per_second"]:.3g}',
                f'{base["seconds"] / row["seconds"]:.2f}' if base else '',
                f'{row["peak_bytes"] / 2**20:.0f} MiB',
            ]
            for row in chosen
        )
        print(markdown_table(header, lines))


def plot(rows, path):
    """Draw speed against multiply-adds, a panel for each size and mode of the first variant."""
    rows = [row for row in rows if row['variant'] == rows[0]['variant']]
    kinds = list(dict.fromkeys((*row['size'], row['mode']) for row in rows))
    columns = len({kind[2] for kind in kinds})
    lines = -(-len(kinds) // columns)
    figure = Figure(figsize=(5.4 * columns, 3.6 * lines), layout='constrained')
    names = list(dict.fromkeys(row['name'] for row in rows))
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for axes, (height, width, mode) in zip(panels, kinds):
        for i, name in enumerate(names):
            points = [
                (row['multiply_adds'] / 1e9, row['images_per_second'])
                for row in rows
                if (*row['size'], row['mode'], row['name']) == (height, width, mode, name)
            ]
            if points:
                axes.plot(*zip(*points), ms=8, label=name, **{**series_style(i), 'linestyle': ''})
        axes.set(title=f'{height}x{width}, {mode}', xlabel='G multiply-adds', ylabel='images/s')
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc='outside right upper')
    figure.suptitle(f'{rows[0]["device"]}, batch {rows[0]["batch"]}, {rows[0]["variant"]}')
    figure.savefig(path, dpi=110)


def main():
    args = parse_args()
    if args.results.suffix != '.json':
        sys.exit(f'the results go into a .json file, got {args.results}')
    with one_line_errors():
        for name in args.backbones:
            scope = BACKBONES[name]['type'].split('.')[0]
            if scope != 'lisa_mm':
                check_codebase(scope)
    setting = dict(describe_environment(args.device), batch=args.batch)
    jobs = [
        dict(setting, size=list(size), mode=mode, variant=variant)
        for variant in args.variants
        for size in args.sizes
        for mode in ('inference', 'training step')
    ]
    with one_line_errors():
        rows = measure_jobs(args.results, jobs, args.backbones, partial(measure, args))
    own = [row for row in rows if setting.items() <= row.items()]
    print_tables(own)
    write_csv(args.results.with_suffix('.csv'), rows)
    plot(own, args.results.with_suffix('.png'))


if __name__ == '__main__':
    main()
