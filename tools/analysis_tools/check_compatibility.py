"""Put LiSA into a model of every family of detectors and decode heads, and try each one out.

A model is built, computes a loss and gradients on made-up images, and predicts.
Every result goes into RESULTS.json at once; what is there already is not tried again. The page of
the docs is made from it.
"""

import argparse
import datetime
import importlib
import logging
import warnings
from pathlib import Path

import torch

from lisa_mm.analysis.benchmark import (
    add_results,
    describe_environment,
    markdown_table,
    read_results,
)
from lisa_mm.analysis.compatibility import (
    check_swap,
    decode_head_families,
    detector_families,
)
from lisa_mm.analysis.isolation import run_isolated

FAMILIES = {'mmdet': detector_families, 'mmseg': decode_head_families}
TITLES = {'mmdet': 'Detectors of MMDetection', 'mmseg': 'Decode heads of MMSegmentation'}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('results', type=Path, help='RESULTS.json, added to if it exists')
    parser.add_argument('--codebases', nargs='+', choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument('--only', nargs='+', help='names of families; all by default')
    parser.add_argument('--arch', default='tiny', help='of the backbone; tiny by default')
    parser.add_argument(
        '--timeout', type=float, default=300, help='seconds for one; 300 by default'
    )
    parser.add_argument('--page', type=Path, help='write the tables to this .md file, too')
    return parser.parse_args()


def main():
    args = parse_args()
    warnings.simplefilter('ignore')
    logging.disable(logging.INFO)  # MMEngine's line for every weight that is initialised
    torch.set_num_threads(1)  # a forked process hangs in the threads of its parent
    jobs = [
        dict(
            codebase=codebase,
            version=importlib.import_module(codebase).__version__,
            family=family,
            config=config,
            arch=args.arch,
        )
        for codebase in args.codebases
        for family, config in FAMILIES[codebase](args.only)
    ]
    for i, job in enumerate(jobs):
        if any(job.items() <= row.items() for row in read_results(args.results)):
            continue
        try:
            found = run_isolated(check_swap, job['config'], args.arch, timeout=args.timeout)
        except (ChildProcessError, TimeoutError) as error:
            found = dict(result='fails', reason=str(error))
        row = {
            **job,
            **found,
            **describe_environment('cpu'),
            'date': datetime.date.today().isoformat(),
        }
        add_results(args.results, [row])
        print(
            f'{i + 1}/{len(jobs)} {job["family"]}: {found["result"]}. {found["reason"]}', flush=True
        )
    text = make_tables(read_results(args.results))
    print(text)
    if args.page:
        args.page.write_text(text)


def make_tables(rows):
    """Return the Markdown of a page about the results."""
    text = [
        '# Compatibility',
        '',
        'LiSA in one config of every family, put there by `tools/swap_backbone.py`: whether the',
        'model can be built, computes a loss and gradients, and predicts, on made-up images',
        'of 224 x 256 pixels, or 320 x 352 where that is too small.',
        '`refused`: LiSA cannot stand there, and the tool says so; `fails`: for another reason.',
        '',
        '```bash',
        'python tools/analysis_tools/check_compatibility.py docs/benchmarks/compatibility.json \\',
        '    --page docs/compatibility.md',
        '```',
    ]
    for codebase, title in TITLES.items():
        # the last result of a family: the file may have those of other versions, too
        last = {row['family']: row for row in rows if row['codebase'] == codebase}
        part = list(last.values())
        if not part:
            continue
        count = {kind: sum(row['result'] == kind for row in part) for kind in ('works', 'refused')}
        text += [
            '',
            f'## {title}',
            '',
            f'{count["works"]} of {len(part)} work; {count["refused"]} are refused by '
            f'`swap_backbone`. {describe(part)}',
            '',
        ]
        lines = []
        for row in sorted(part, key=lambda row: row['family']):
            config = row['config'].removeprefix(f'{codebase}::')
            reason = row['reason'].replace('|', '\\|')
            result = f'{row["result"]}: {reason}' if reason else row['result']
            lines.append([row['family'], f'`{config}`', result])
        text.append(markdown_table(['family', 'config', 'result'], lines))
    return '\n'.join(text) + '\n'


def describe(rows):
    """Name the environments that the rows are from."""
    return '; '.join(
        sorted({f'{r["codebase"]} {r["version"]}, torch {r["torch"]}, {r["date"]}' for r in rows})
    )


if __name__ == '__main__':
    main()
