"""Measure how much the kernels of a LiSA backbone's attention resemble each other.

Mean resemblance of the kernels of different heads and of different layers, and
their entropy, layer by layer, beside what chance gives. RESULTS.json keeps what
was measured under each --name; the picture RESULTS.png shows all of them.
Without --checkpoint it is of random weights, which is worth a name of its own:
what the kernels owe to their form, and not to the training.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from matplotlib.figure import Figure
from mmengine.config import DictAction
from mmengine.utils import track_iter_progress

from lisa_mm.analysis import kernel_redundancy
from lisa_mm.analysis.benchmark import add_results, markdown_table, read_results
from lisa_mm.analysis.inspection import (
    DIVISOR,
    find_backbone,
    find_images,
    load_model,
    preprocess,
    read_image,
)
from lisa_mm.utils.cli import one_line_errors
from lisa_mm.utils.config import load_config
from lisa_mm.visualization.style import series_style

MEASURES = {
    'chance': 'absolute correlation by chance',
    'head_correlation': 'absolute correlation of heads',
    'layer_correlation': 'absolute correlation with layers of the stage',
    'head_cosine': 'cosine of heads',
    'layer_cosine': 'cosine with layers of the stage',
    'entropy': 'normalised entropy',
}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('results', type=Path, help='RESULTS.json, added to if it exists')
    parser.add_argument('config', help='config file, or CODEBASE::NAME')
    parser.add_argument('images', type=Path, help='folder of images')
    parser.add_argument('--name', required=True, help='what to call the model in the picture')
    parser.add_argument('--checkpoint', help='checkpoint file; random weights without')
    parser.add_argument('--seed', type=int, default=0, help='of random weights; 0 by default')
    parser.add_argument('--num-images', type=int, default=16, help='16 by default, spread evenly')
    parser.add_argument('--num-positions', type=int, default=16, help='queries per image; 16')
    parser.add_argument(
        '--size',
        type=int,
        default=224,
        help='side in pixels to which images are resized, a multiple of 32; 224 by default',
    )
    parser.add_argument('--data-root', help='for configs that read the classes from the data')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def choose_images(folder, number):
    """Return so many images of a folder and its subfolders, spread evenly."""
    paths = find_images(folder)
    number = min(number, len(paths))
    return [paths[i * len(paths) // number] for i in range(number)]


def print_table(rows):
    """Print Markdown: the layers of each model, and their means."""
    lines = []
    for name in dict.fromkeys(row['name'] for row in rows):
        own = [row for row in rows if row['name'] == name]
        means = {key: mean([row[key] for row in own]) for key in MEASURES}
        for row in [*own, dict(means, layer='mean', grid=None, heads='')]:
            grid = 'x'.join(map(str, row['grid'])) if row['grid'] else ''
            cells = ('' if row[key] is None else f'{row[key]:.3f}' for key in MEASURES)
            lines.append([name, row['layer'], grid, str(row['heads']), *cells])
    print(f'\n{markdown_table(["model", "layer", "grid", "heads", *MEASURES.values()], lines)}')


def mean(values):
    """Return the mean of those that are not None."""
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else None


def plot(rows, path):
    """Draw a panel for each measure, over the layers."""
    names = list(dict.fromkeys(row['name'] for row in rows))
    # by stage and block: models may have different depths
    layers = sorted(
        {row['layer'] for row in rows}, key=lambda name: [int(n) for n in name.split('.')[1:]]
    )
    figure = Figure(figsize=(13, 7), layout='constrained')
    *panels, last = figure.subplots(2, 3).flat
    last.axis('off')
    chance = sorted(
        {(layers.index(row['layer']), row['chance']) for row in rows if row['chance'] is not None}
    )
    for axes, (key, title) in zip(panels, list(MEASURES.items())[1:]):
        if chance and key.endswith('correlation'):
            # dashes: models may have seen images of different sizes
            axes.plot(*zip(*chance), '_', color='gray', markersize=12, label='white noise')
        for i, name in enumerate(names):
            points = sorted(
                (layers.index(row['layer']), row[key])
                for row in rows
                if row['name'] == name and row[key] is not None
            )
            if points:
                axes.plot(*zip(*points), label=name, **series_style(i))
        axes.set_xticks(range(len(layers)), layers, rotation=90, fontsize=7)
        axes.set(title=title, xlim=(-0.5, len(layers) - 0.5))
        axes.axhline(0, color='gray', linewidth=0.5)
        axes.grid(alpha=0.3)
    last.legend(*panels[0].get_legend_handles_labels(), loc='center')
    figure.savefig(path, dpi=110)


def main():
    args = parse_args()
    if args.results.suffix != '.json':
        sys.exit(f'the results go into a .json file, got {args.results}')
    if min(args.num_images, args.num_positions) < 1:
        sys.exit('--num-images and --num-positions must be at least 1')
    if args.size < 1 or args.size % DIVISOR:
        sys.exit(f'--size must be a multiple of {DIVISOR}, got {args.size}')
    with one_line_errors():
        rows = read_results(args.results)
        paths = choose_images(args.images, args.num_images)
    setting = dict(
        name=args.name,
        config=Path(args.config).stem,
        # what is changed in it decides which model that is
        cfg_options={key: str(value) for key, value in (args.cfg_options or {}).items()},
        checkpoint=args.checkpoint,
        seed=None if args.checkpoint else args.seed,
        folder=args.images.name,
        images=len(paths),
        positions=args.num_positions,
        size=args.size,
    )
    there = next((row for row in rows if row['name'] == args.name), None)
    if there is not None:
        for key, value in setting.items():
            if there.get(key) != value:
                sys.exit(
                    f'{args.results} has {args.name!r} with {key} {there.get(key)!r}, '
                    f'not {value!r}: choose another name'
                )
        print(f'{args.results} has {args.name!r} already')
    else:
        with one_line_errors():
            cfg = load_config(args.config, args.cfg_options, args.data_root)
            torch.manual_seed(args.seed)
            model = load_model(cfg, args.checkpoint)
            images = (
                # square, so that all are of one size
                preprocess(model, read_image(path, (args.size, args.size)))
                for path in track_iter_progress(paths)
            )
            found = kernel_redundancy(find_backbone(model), images, args.num_positions)
        rows = add_results(args.results, [{**setting, **asdict(layer)} for layer in found])
    print_table(rows)
    plot(rows, args.results.with_suffix('.png'))


if __name__ == '__main__':
    main()
