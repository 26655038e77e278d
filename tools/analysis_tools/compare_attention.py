"""Train variants of a model with several seeds, and compare what they reach.

Every finished run goes into RESULTS.json at once; what is there already is not
trained again. Processes on different variants may share the file. The table of
means and spreads is made from it.
"""

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config

from lisa_mm.analysis.benchmark import add_results, describe_environment, read_results
from lisa_mm.analysis.isolation import run_isolated
from lisa_mm.models import StructureAwareAttention
from lisa_mm.ops import apply_patterns, structural_patterns
from lisa_mm.registry import MODELS
from lisa_mm.utils.cli import build_runner, one_line_errors
from lisa_mm.utils.config import check_data, load_config

CONFIGS = Path(__file__).parents[2] / 'configs'
NORMS = {
    'none': lambda x: x,
    'l2': lambda x: F.normalize(x, dim=2),
    'rms': lambda x: x / (x.square().mean((2, 3, 4), keepdim=True) + 1e-6).sqrt(),
    'softmax': lambda x: x.softmax(2),
    'gelu': F.gelu,
}


@MODELS.register_module()
class NormalisationVariant(StructureAwareAttention):
    """Structure-aware attention with other normalisations than its own.

    Args:
        query_key: That of queries and keys, a key of ``NORMS``.
        value: That of the values.
        patterns: That of the patterns.
    """

    def __init__(
        self,
        embed_dims,
        num_heads,
        num_patterns,
        rpe_radius,
        query_key='l2',
        value='none',
        patterns='none',
        init_cfg=None,
    ):
        super().__init__(embed_dims, num_heads, num_patterns, rpe_radius, init_cfg=init_cfg)
        self.norms = [NORMS[name] for name in (query_key, value, patterns)]
        if query_key != 'l2':
            # the product of two vectors of unit variance has variance dk, and not 1 / dk
            self.scale /= embed_dims // num_heads

    def forward(self, x):
        query, key, value = self.qkv(x).unflatten(1, (3, self.num_heads, -1)).unbind(1)
        norm, norm_value, norm_patterns = self.norms
        query, key = norm(query) * self.scale, norm(key)
        patterns = structural_patterns(query, key, self.rpe_encoder, self.boundary)
        out = apply_patterns(
            norm_patterns(patterns), norm_value(value), self.rpe_decoder, self.boundary
        )
        return self.proj(out.flatten(1, 2))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('results', type=Path, help='RESULTS.json, added to if it exists')
    parser.add_argument('--data-root', required=True, help='folder with train/ and val/ of images')
    parser.add_argument(
        '--config',
        default=str(CONFIGS / 'lisa_mini_custom.py'),
        help='model to vary; configs/lisa_mini_custom.py by default',
    )
    parser.add_argument(
        '--variants',
        default=str(CONFIGS / 'comparisons' / 'structure_aware_attention.py'),
        help='config file with a dict `variants` of what each changes; '
        'configs/comparisons/structure_aware_attention.py by default',
    )
    parser.add_argument('--only', nargs='+', help='names of the variants to train; all by default')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='0 1 2 by default')
    parser.add_argument(
        '--metrics',
        nargs='+',
        default=['accuracy/top1'],
        help='what the evaluator calls them; accuracy/top1 by default',
    )
    parser.add_argument('--epochs', type=int, help='what the config says by default')
    parser.add_argument('--minutes', type=float, help='start no run after so many minutes')
    parser.add_argument('--work-dir', default='work_dirs/compare_attention', help='for the logs')
    return parser.parse_args()


def train(args, change, seed):
    """Train one variant with one seed; returns metrics, time, memory and number of parameters."""
    cfg = load_config(args.config, data_root=args.data_root)
    cfg.merge_from_dict(change)
    cfg.work_dir = args.work_dir
    cfg.randomness = dict(seed=seed)
    cfg.default_hooks.checkpoint = None
    if args.epochs is not None:
        cfg.train_cfg.update(max_epochs=args.epochs, val_interval=args.epochs)
        cfg.param_scheduler[-1].T_max = args.epochs
    cfg.log_level = 'WARNING'
    runner = build_runner(cfg)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    runner.train()
    scalars = runner.message_hub
    return dict(
        {name: scalars.get_scalar(f'val/{name}').current() for name in args.metrics},
        loss=scalars.get_scalar('train/loss').current(),
        parameters=sum(parameter.numel() for parameter in runner.model.parameters()),
        epochs=runner.max_epochs,
        iterations=runner.max_iters,
        # the first ones take longer
        seconds_per_iteration=statistics.median(scalars.get_scalar('train/time').data[0]),
        memory=peak_process_memory(),
        **describe_environment('cuda' if torch.cuda.is_available() else 'cpu'),
    )


def peak_process_memory():
    """Return the bytes that this process has had at most, of a GPU if there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def print_table(rows, metrics):
    """Print Markdown: mean and spread over the seeds, best variant first."""
    found = {}
    for row in rows:
        if all(name in row for name in metrics):
            found.setdefault((row['variant'], row['epochs'], row['config']), []).append(row)

    def mean(key, name):
        return statistics.mean(run[name] for run in found[key])

    columns = ' | '.join(f'{name} | deviation' for name in metrics)
    print(f'\n| variant | epochs | config | parameters | seeds | {columns} | training loss |')
    print('|---' * (6 + 2 * len(metrics)) + '|')
    for key in sorted(found, key=lambda key: mean(key, metrics[0]), reverse=True):
        runs = found[key]
        cells = []
        for name in metrics:
            values = [run[name] for run in runs]
            cells += [f'{mean(key, name):.3g}']
            cells += [f'{statistics.stdev(values):.2g}' if len(runs) > 1 else '']
        print(
            f'| {" | ".join(map(str, key))} | {runs[0]["parameters"] / 1e6:.2f} M | {len(runs)} '
            f'| {" | ".join(cells)} | {mean(key, "loss"):.3f} |'
        )


def main():
    args = parse_args()
    start = time.monotonic()
    variants = Config.fromfile(args.variants).variants
    names = args.only or list(variants)
    unknown = [name for name in names if name not in variants]
    if unknown:
        sys.exit(f'--only must name variants out of {list(variants)}, got {unknown}')
    with one_line_errors():  # here rather than in the processes of the runs
        check_data(load_config(args.config, data_root=args.data_root), ('train', 'val'))
    # all variants with one seed before the next: stopped early, the comparison stays fair
    jobs = [(name, seed) for seed in args.seeds for name in names]
    for i, (name, seed) in enumerate(jobs):
        job = dict(config=Path(args.config).stem, variant=name, seed=seed, asked_epochs=args.epochs)
        if any(job.items() <= row.items() for row in read_results(args.results)):
            continue
        if args.minutes is not None and time.monotonic() - start > args.minutes * 60:
            print(f'{len(jobs) - i} runs left for another time')
            break
        began = time.monotonic()
        with one_line_errors(ChildProcessError):
            # a process for each: MMEngine keeps things, and memory is that of one run
            row = run_isolated(train, args, variants[name], seed)
        add_results(args.results, [{**job, **row}])
        seconds = time.monotonic() - began
        reached = ', '.join(f'{metric} {row[metric]:.4g}' for metric in args.metrics)
        print(f'{i + 1}/{len(jobs)} {name}, seed {seed}: {reached} ({seconds:.0f} s)', flush=True)
    print_table(read_results(args.results), args.metrics)


if __name__ == '__main__':
    main()
