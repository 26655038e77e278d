"""Draw the predictions that tools/test.py --out has written beside the annotations."""

import argparse
import os.path as osp
import pickle

from lisa_mm.utils.cli import one_line_errors
from lisa_mm.utils.config import check_data, iter_datasets, load_config
from lisa_mm.visualization import draw_instances


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file of the detector')
    parser.add_argument('predictions', help='the .pkl file of tools/test.py --out')
    parser.add_argument('picture', help='where to write the picture, a .png file for instance')
    parser.add_argument('--data-root', help='folder of the data; by default what the config says')
    parser.add_argument('--num-images', type=int, default=6, help='6 by default')
    parser.add_argument('--score-thr', type=float, default=0.5, help='least score; 0.5 by default')
    return parser.parse_args()


def main():
    args = parse_args()
    if not osp.isfile(args.predictions):
        raise SystemExit(f'there is no file {args.predictions}')
    with one_line_errors():
        cfg = load_config(args.config, data_root=args.data_root)
        if cfg.default_scope != 'mmdet':
            raise SystemExit(f'{args.config} is not the config of a detector (mmdet)')
        check_data(cfg, ('test',))
        dataset = next(iter_datasets(cfg.test_dataloader))
        with open(args.predictions, 'rb') as file:
            predictions = pickle.load(file)
        figure = draw_instances(
            osp.join(dataset.data_root, dataset.ann_file),
            osp.join(dataset.data_root, dataset.data_prefix.img),
            predictions,
            dataset.get('metainfo', {}).get('classes'),
            args.num_images,
            args.score_thr,
        )
        figure.savefig(args.picture, dpi=110)
    print(f'The picture is in {args.picture}')


if __name__ == '__main__':
    main()
