"""RetinaNet, LiSA-small, 1x schedule, COCO 2017."""

_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/adamw_1x.py',
    './_base_/runtimes/detection.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='lisa_mm.LiSA',
        arch='small',
        out_indices=(1, 2, 3),
        drop_path_rate=0.2,
    ),
    # the map at stride 4 is not used, and its norm would have no gradient
    neck=dict(in_channels=[160, 320, 640], start_level=0),
)
