"""Predict on an image or a folder of images: overlay pictures, and what was found as JSON.

For detectors, segmenters and classifiers, with the inferencers of their codebases. An image that
cannot be read or predicted on is reported and left out.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

import numpy as np
from mmengine.utils import track_iter_progress
from PIL import Image, ImageOps

from lisa_mm.analysis.inspection import find_images
from lisa_mm.utils.checkpoint import (
    CheckpointError,
    check_weights,
    load_checkpoint,
    load_weights_only,
)
from lisa_mm.utils.cli import one_line_errors
from lisa_mm.utils.config import load_config, set_checkpoint


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', type=Path, help='an image, or a folder of images')
    parser.add_argument('--config', required=True, help='config file, or CODEBASE::NAME')
    parser.add_argument('--checkpoint', required=True, help='checkpoint file')
    parser.add_argument(
        '--out', type=Path, default='predictions', help='folder to write to; predictions by default'
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='least score that is drawn; 0.3 by default'
    )
    parser.add_argument('--device', help='a GPU by default if there is one')
    parser.add_argument('--data-root', help='for configs that read the classes from the data')
    return parser.parse_args()


def choose_images(path):
    """List the images, and the folder that their names are relative to."""
    if path.is_file():
        return [path], path.parent
    if not path.is_dir():
        sys.exit(f'there is no image or folder {path}')
    return find_images(path), path


def build_predictor(cfg, device, score_thr):
    """Return the model, and a function from an image's path to a dict for JSON and a picture."""
    if cfg.default_scope == 'mmdet':
        from mmdet.apis import DetInferencer

        inferencer = DetInferencer(cfg, cfg.load_from, device, show_progress=False)
        classes = inferencer.model.dataset_meta['classes']

        def detect(path):
            result = inferencer(str(path), return_vis=True, pred_score_thr=score_thr)
            found = result['predictions'][0]
            found.pop('panoptic_seg', None)  # an array; it is in the picture
            found['label_names'] = [classes[label] for label in found.get('labels', [])]
            return found, result['visualization'][0]

        return inferencer.model, detect
    if cfg.default_scope == 'mmseg':
        from mmseg.apis import MMSegInferencer

        inferencer = MMSegInferencer(cfg, cfg.load_from, device=device)
        inferencer.show_progress = False  # an argument of later versions only
        classes = inferencer.model.dataset_meta['classes']

        def segment(path):
            result = inferencer(str(path), return_vis=True)
            labels, counts = np.unique(result['predictions'], return_counts=True)
            share = {classes[i]: n / counts.sum() for i, n in zip(labels, counts.tolist())}
            return dict(share_of_pixels=share), result['visualization']

        return inferencer.model, segment
    from mmpretrain.apis import ImageClassificationInferencer
    from mmpretrain.visualization import UniversalVisualizer

    inferencer = ImageClassificationInferencer(cfg, cfg.load_from, device)
    visualizer = UniversalVisualizer()
    classes = inferencer.classes

    def classify(path):
        [sample] = inferencer(str(path), return_datasamples=True)
        scores, label = sample.pred_score.tolist(), sample.pred_label.item()
        image = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert('RGB'))
        picture = visualizer.visualize_cls(image, sample, classes=classes, draw_gt=False)
        return dict(label=label, label_name=classes[label], scores=scores), picture

    return inferencer.model, classify


def main():
    args = parse_args()
    with one_line_errors():
        images, root = choose_images(args.input)
        cfg = load_config(args.config, data_root=args.data_root)
        set_checkpoint(cfg, args.checkpoint)
    load_weights_only()
    logging.getLogger('mmengine').setLevel(logging.WARNING)
    with one_line_errors(CheckpointError, FileNotFoundError):
        model, predict = build_predictor(cfg, args.device, args.score_thr)
        check_weights(model, load_checkpoint(cfg.load_from))
    skipped = {}
    for path in track_iter_progress(images):
        name = path.relative_to(root)
        try:
            with Image.open(path) as image:
                image.load()
            found, picture = predict(path)
            out = args.out / name
            out.parent.mkdir(parents=True, exist_ok=True)
            # the suffix stays in the name: a.jpg and a.png may lie in one folder
            Path(f'{out}.json').write_text(json.dumps(found))
            Image.fromarray(np.ascontiguousarray(picture)).save(f'{out}.png')
        except Exception as error:  # one image must not stop the others, whatever is wrong with it
            skipped[str(name)] = f'{type(error).__name__}: {error}'
    print(f'\n{len(images) - len(skipped)} of {len(images)} images are in {args.out}')
    for name, reason in skipped.items():
        print(f'left out {name}: {reason}')
    if len(skipped) == len(images):
        sys.exit(1)


if __name__ == '__main__':
    main()
