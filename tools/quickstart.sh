#!/usr/bin/env bash
# From nothing to a trained and evaluated Mask R-CNN with a LiSA backbone, on a CPU:
#     bash tools/quickstart.sh
# Sets up an environment (tools/install.sh), draws a small data set, trains, evaluates and draws
# predictions. Run again after an interruption, it goes on from the last checkpoint.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${VENV:-$root/.venv}
[[ $VENV == /* ]] || VENV=$PWD/$VENV
export VENV
cd "$root"
bash tools/install.sh
python=$VENV/bin/python
config=configs/mask_rcnn_lisa_shapes.py
data=data/shapes
work=work_dirs/mask_rcnn_lisa_shapes

"$python" tools/dataset_tools/make_shapes.py "$data"
"$python" tools/train.py "$config" --data-root "$data" --work-dir "$work" --resume
"$python" tools/test.py "$config" "$(cat "$work/last_checkpoint")" --data-root "$data" \
    --work-dir "$work" --out "$work/predictions.pkl"
"$python" tools/visualization/draw_predictions.py "$config" "$work/predictions.pkl" \
    "$work/predictions.png" --data-root "$data"
