"""What follows a swap of the backbone, in each codebase, and what is refused."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from torch import nn

from lisa_mm.analysis.compatibility import train_and_predict
from lisa_mm.models import LiSA
from lisa_mm.utils.config import load_config
from lisa_mm.utils.swap_backbone import NotTriedError, swap_backbone

TINY = [64, 128, 256, 512]


def test_detector_with_a_pyramid():
    cfg = load_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    cfg.load_from = 'https://example.org/resnet.pth'
    changes = swap_backbone(cfg, 'tiny')
    assert cfg.model.backbone == dict(
        type='lisa_mm.LiSA', arch='tiny', out_indices=(1, 2, 3), drop_path_rate=0.1
    )
    # the map at stride 4 was not used: its norm would have no gradient
    assert cfg.model.neck.in_channels == TINY[1:]
    assert cfg.model.neck.start_level == 0
    assert cfg.load_from is None
    assert cfg.default_hooks.checkpoint.type == 'lisa_mm.AtomicCheckpointHook'
    # from 0.01 for 16 images with SGD
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-4)
    assert 'model.neck.in_channels: [256, 512, 1024, 2048] -> [128, 256, 512]' in changes
    assert any(line.startswith('optim_wrapper.optimizer: dict(type=') for line in changes)
    model = train_and_predict(cfg)
    assert isinstance(model.backbone, LiSA)
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())


def test_pretrained_weights_and_their_normalisation():
    cfg = load_config('mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py')
    assert not cfg.model.data_preprocessor.bgr_to_rgb
    swap_backbone(cfg, 'tiny', checkpoint='lisa.pth')
    assert cfg.model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint='lisa.pth', prefix='backbone.'
    )
    assert cfg.model.data_preprocessor.bgr_to_rgb
    assert cfg.model.data_preprocessor.mean == [123.675, 116.28, 103.53]
    assert cfg.model.data_preprocessor.std == [58.395, 57.12, 57.375]


def test_learning_rate_goes_with_the_batch_size():
    cfg = load_config('mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py')
    assert cfg.auto_scale_lr.base_batch_size == 64
    swap_backbone(cfg, 'tiny')
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(4e-4)
    # from the deepest map on
    assert cfg.model.neck.in_channels == [512, 256, 128]
    assert cfg.model.backbone.out_indices == (1, 2, 3)


def test_adaptive_optimizer_and_its_rules_are_kept():
    cfg = load_config('mmdet::detr/detr_r50_8xb2-150e_coco.py')
    optimizer = copy.deepcopy(cfg.optim_wrapper.optimizer)
    swap_backbone(cfg, 'tiny')
    assert cfg.optim_wrapper.optimizer == optimizer
    paramwise = cfg.optim_wrapper.paramwise_cfg
    assert paramwise.custom_keys.backbone == dict(lr_mult=0.1)
    model = nn.ModuleDict(dict(backbone=LiSA('tiny'), head=nn.Conv2d(1, 1, 1)))
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    found = {id(group['params'][0]): (group['lr'], group['weight_decay']) for group in groups}
    for name, parameter in model.named_parameters():
        lr, decay = found[id(parameter)]
        assert lr == pytest.approx(1e-5 if name.startswith('backbone') else 1e-4), name
        assert (decay > 0) == (parameter.dim() > 1 and 'rpe_' not in name), name
    assert paramwise.custom_keys.rpe_.decay_mult == 0
    assert paramwise.norm_decay_mult == paramwise.bias_decay_mult == paramwise.flat_decay_mult == 0
    assert cfg.model.neck.in_channels == [512]


def test_layer_wise_learning_rates_stay():
    cfg = load_config('mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py')
    swap_backbone(cfg, 'tiny')
    assert cfg.optim_wrapper.constructor == 'lisa_mm.LayerDecayOptimWrapperConstructor'
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.95
    assert 'num_layers' not in cfg.optim_wrapper.paramwise_cfg


def test_heads_that_read_the_backbone_directly():
    cfg = load_config('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py')
    swap_backbone(cfg, 'tiny')
    assert cfg.model.panoptic_head.in_channels == TINY

    cfg = load_config('mmdet::faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco.py')
    changes = swap_backbone(cfg, 'tiny')
    assert any('LiSA is used up to its stage 2' in line for line in changes)
    assert cfg.model.backbone.out_indices == (2,)  # the stride that the dilated stage had
    assert cfg.model.rpn_head.in_channels == 256
    assert cfg.model.roi_head.bbox_roi_extractor.out_channels == 256
    assert cfg.model.roi_head.bbox_head.in_channels == 256


def test_detector_inside_of_another_model():
    cfg = load_config(
        'mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'
    )
    changes = swap_backbone(cfg, 'tiny')
    for preprocessor in (cfg.model.detector.data_preprocessor, cfg.model.data_preprocessor):
        inner = preprocessor.get('data_preprocessor', preprocessor)
        assert inner.bgr_to_rgb and inner.std == [58.395, 57.12, 57.375]
    assert cfg.model.detector.backbone.type == 'lisa_mm.LiSA'
    assert cfg.model.detector.neck.in_channels == TINY
    assert any(line.startswith('model.detector.backbone: ResNet -> LiSA') for line in changes)


def test_segmenter():
    cfg = load_config('mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py')
    changes = swap_backbone(cfg, 'tiny')
    assert cfg.model.decode_head.in_channels == 512
    assert cfg.model.auxiliary_head.in_channels == 256
    assert cfg.find_unused_parameters  # nobody reads the first two maps
    assert 'strides of the maps: [4, 8, 8, 8] -> [4, 8, 16, 32], as LiSA is not dilated' in changes
    assert cfg.model.pretrained is None
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(6e-5)
    train_and_predict(cfg)


def test_segmenter_with_several_heads():
    cfg = load_config('mmseg::ocrnet/ocrnet_hr18_4xb2-40k_cityscapes-512x1024.py')
    swap_backbone(cfg, 'tiny')
    assert [head.in_channels for head in cfg.model.decode_head] == [TINY, TINY]
    assert 'find_unused_parameters' not in cfg


def test_segmenter_that_classifies_masks():
    cfg = load_config('mmseg::maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py')
    swap_backbone(cfg, 'tiny')
    assert cfg.model.decode_head.in_channels == TINY


def test_heads_inside_of_heads_and_low_level_maps():
    cfg = load_config('mmseg::knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py')
    swap_backbone(cfg, 'tiny')
    assert cfg.model.decode_head.kernel_generate_head.in_channels == 512

    cfg = load_config('mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py')
    swap_backbone(cfg, 'tiny')
    assert cfg.model.decode_head.c1_in_channels == 64


def test_neck_that_passes_maps_on():
    cfg = load_config('mmseg::fastfcn/fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024.py')
    swap_backbone(cfg, 'tiny')
    assert cfg.model.neck.in_channels == (128, 256, 512)
    assert cfg.model.auxiliary_head.in_channels == 256


def test_classifier():
    cfg = load_config('mmpretrain::resnet/resnet50_8xb32_in1k.py')
    swap_backbone(cfg, 'tiny')
    assert cfg.model.backbone.out_indices == (3,)
    assert cfg.model.head.in_channels == 512
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-3 * 256 / 1024)
    train_and_predict(cfg, num_classes=1000)


def test_rules_of_initialisation_stay():
    cfg = load_config('mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py')
    rules = copy.deepcopy(cfg.model.init_cfg)
    swap_backbone(cfg, 'tiny')
    assert cfg.model.init_cfg == rules


@pytest.mark.parametrize('kind', ['torch.optim.SGD', torch.optim.SGD])
def test_sgd_by_another_name(kind):
    cfg = load_config('mmpretrain::resnet/resnet18_8xb32_in1k.py')
    cfg.optim_wrapper.optimizer.type = kind
    swap_backbone(cfg, 'tiny')
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'


def test_several_optimizers_are_left_alone():
    cfg = load_config('mmpretrain::resnet/resnet18_8xb32_in1k.py')
    cfg.optim_wrapper = dict(constructor='Own')
    changes = swap_backbone(cfg, 'tiny')
    assert 'optim_wrapper names no optimizer of its own: left as it is' in changes


def test_what_cannot_run_as_it_is_says_nothing_of_lisa():
    cfg = load_config('mmpretrain::resnet/resnet18_8xb32_in1k.py')
    cfg.model.backbone.depth = 19
    with pytest.raises(NotTriedError, match='ResNet could not be built and run .* KeyError'):
        swap_backbone(cfg, 'tiny')


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (
            'mmdet::cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py',
            r'HourglassNet gives maps at strides \[4, 4\], and LiSA one at each of 4, 8, 16 and 32',
        ),
        (
            'mmdet::faster_rcnn/faster-rcnn_r50-caffe-c4_ms-1x_coco.py',
            r'its roi_head has a shared_head \(ResLayer\)',
        ),
        (
            'mmdet::detectors/cascade-rcnn_r50-rfp_1x_coco.py',
            r'DetectoRS_ResNet gives maps at strides \[1, 4, 8, 16, 32\]',
        ),
        (
            'mmseg::setr/setr_vit-l_naive_8xb1-80k_cityscapes-768x768.py',
            r'VisionTransformer gives maps at strides \[16, 16, 16, 16\]',
        ),
        (
            'mmseg::ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py',
            'DDRNet gives a bare tensor',
        ),
        (  # its two heads want maps of one size
            'mmseg::ocrnet/ocrnet_r101-d8_4xb2-40k_cityscapes-512x1024.py',
            'CascadeEncoderDecoder with LiSA could not be built and run',
        ),
        (
            'mmpretrain::resnet/resnet18_8xb16_cifar10.py',
            r'ResNet_CIFAR gives maps at strides \[8\]',
        ),
        (
            'mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py',
            'VisionTransformer gives maps at strides',
        ),
        (
            'mmdet::misc/d2_retinanet_r50-caffe_fpn_ms-90k_coco.py',
            r'the model \(Detectron2Wrapper\) has no backbone that could be exchanged',
        ),
        (
            'mmpretrain::clip/clip_vit-base-p16_zeroshot-cls_cifar100.py',
            'has no backbone that could be exchanged',
        ),
    ],
)
def test_refuses(config, message):
    cfg = load_config(config)
    before = copy.deepcopy(cfg.to_dict())
    with pytest.raises(ValueError, match=message):
        swap_backbone(cfg, 'tiny')
    assert cfg.to_dict() == before


def test_refuses_with_the_line_of_a_bare_assertion():
    cfg = load_config('mmdet::ssd/ssd300_coco.py')
    with pytest.raises(ValueError, match='SSDNeck could not .* AssertionError: assert .*channels'):
        swap_backbone(cfg, 'tiny')


def test_refuses_channels_that_do_not_fit():
    cfg = load_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    cfg.model.neck = ConfigDict(type='lisa_mm.NoSuchNeck')
    with pytest.raises(
        ValueError, match='ResNet and lisa_mm.NoSuchNeck could not be built and run'
    ):
        swap_backbone(cfg, 'tiny')

    cfg = load_config('mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py')
    cfg.model.decode_head.in_index = 7
    with pytest.raises(ValueError, match=r'model.decode_head.in_index=7 .* 4 maps'):
        swap_backbone(cfg, 'tiny')


def test_refuses_other_images_and_other_codebases():
    cfg = load_config('mmpretrain::resnet/resnet18_8xb32_in1k.py')
    cfg.model.backbone.in_channels = 4
    with pytest.raises(ValueError, match='ResNet takes 4 channels, and images are expected'):
        swap_backbone(cfg, 'tiny')
    cfg.default_scope = 'mmengine'
    with pytest.raises(ValueError, match="default_scope .* one of mmdet, .* got 'mmengine'"):
        swap_backbone(cfg, 'tiny')


def test_unknown_arch_is_named():
    cfg = load_config('mmpretrain::resnet/resnet18_8xb32_in1k.py')
    with pytest.raises(ValueError, match="arch must be one of 'tiny'"):
        swap_backbone(cfg, 'huge')
