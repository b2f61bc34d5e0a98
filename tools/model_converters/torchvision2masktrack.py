#!/usr/bin/env python
"""Convert torchvision's COCO Mask R-CNN to initial weights of MaskTrack R-CNN and CMaskTrack R-CNN; see --help.

    python tools/model_converters/torchvision2masktrack.py configs/masktrack_rcnn_r50_fpn_1x_yvis.py \\
        maskrcnn_resnet50_fpn_coco coco.pth
    python train.py configs/masktrack_rcnn_r50_fpn_1x_yvis.py --load_from coco.pth
"""
from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, checkpoint_source, config_file, run_command

if TYPE_CHECKING:
    from torch import Tensor

# torchvision's names → this project's
_NAMES = (
    (r'^backbone\.body\.', 'backbone.'),
    (r'^backbone\.fpn\.inner_blocks\.(\d)\.0\.', r'neck.lateral_convs.\1.conv.'),
    (r'^backbone\.fpn\.layer_blocks\.(\d)\.0\.', r'neck.fpn_convs.\1.conv.'),
    (r'^rpn\.head\.conv\.0\.0\.', 'rpn_head.rpn_conv.'),
    (r'^rpn\.head\.cls_logits\.', 'rpn_head.rpn_cls.'),
    (r'^rpn\.head\.bbox_pred\.', 'rpn_head.rpn_reg.'),
    (r'^roi_heads\.box_head\.fc6\.', 'bbox_head.shared_fcs.0.'),
    (r'^roi_heads\.box_head\.fc7\.', 'bbox_head.shared_fcs.1.'),
    (r'^roi_heads\.box_predictor\.cls_score\.', 'bbox_head.fc_cls.'),
    (r'^roi_heads\.box_predictor\.bbox_pred\.', 'bbox_head.fc_reg.'),
    (r'^roi_heads\.mask_head\.(\d)\.0\.', r'mask_head.convs.\1.conv.'),
    (r'^roi_heads\.mask_predictor\.conv5_mask\.', 'mask_head.upsample.'),
    (r'^roi_heads\.mask_predictor\.mask_fcn_logits\.', 'mask_head.conv_logits.'),
)
_CLASS_LAYERS = {'bbox_head.fc_cls': 1, 'bbox_head.fc_reg': 4, 'mask_head.conv_logits': 1}  # rows for each class
_EPS = 1e-5  # eps of this project's batch norms


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/model_converters/torchvision2masktrack.py', description=(
        "Converts torchvision's maskrcnn_resnet50_fpn weights to initial weights for a MaskTrack or CMaskTrack R-CNN "
        'config (train.py CONFIG --load_from TARGET). The track head is initialised with the layers of the box head. '
        "docs/torchvision.md compares the detections with torchvision's."))
    parser.add_argument('config', type=config_file, help='config of the model')
    parser.add_argument('source', type=checkpoint_source, help='maskrcnn_resnet50_fpn_coco, an address or a file')
    parser.add_argument('target', help='output file')
    return parser


def convert(weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Convert weights of ``maskrcnn_resnet50_fpn`` with 91 outputs to MaskTrack R-CNN with COCO's 80 classes.

    Raises:
        UserError: other weights, such as those of ``maskrcnn_resnet50_fpn_v2``, whose heads have other layers.
    """
    import torch

    from mmdet.errors import UserError, shortened
    from mmdet.models.detectors.torchvision_tracker import COCO_INDICES, coco_categories, current_names

    rows = torch.tensor([0, *coco_categories()[0]])  # background first, as here
    converted: dict[str, Tensor] = {}
    unknown = []
    for name, value in current_names(weights).items():
        ours = next((re.sub(pattern, replacement, name) for pattern, replacement in _NAMES if re.match(pattern, name)),
                    None)
        if ours is None:
            unknown.append(name)
            continue
        per_class = _CLASS_LAYERS.get(ours.rpartition('.')[0])
        if per_class and len(value) == COCO_INDICES * per_class:
            value = value.unflatten(0, (COCO_INDICES, per_class))[rows].flatten(0, 1)
        elif per_class:
            unknown.append(name)
        converted[ours] = value
    if unknown:
        raise UserError(f'{source}: is not torchvision\'s maskrcnn_resnet50_fpn with COCO\'s {COCO_INDICES} outputs: '
                        f'{shortened(unknown)} has no place in MaskTrack R-CNN; take maskrcnn_resnet50_fpn_coco')
    _unfreeze_norms(converted)
    # features trained to classify are a better initialisation of the track head than random weights
    for layer in (0, 1):
        for kind in ('weight', 'bias'):
            if f'bbox_head.shared_fcs.{layer}.{kind}' in converted:
                converted[f'track_head.fcs.{layer}.{kind}'] = converted[f'bbox_head.shared_fcs.{layer}.{kind}'].clone()
    return converted


def _unfreeze_norms(weights: dict[str, Tensor]) -> None:
    """Fold eps into the batch norms, which torchvision runs without eps, so that they compute the same function."""
    import torch
    for name in [name for name in weights if name.endswith('running_var')]:
        layer = name.removesuffix('running_var')
        weights[f'{layer}weight'] = weights[f'{layer}weight'] * weights[name].rsqrt()
        weights[name] = torch.full_like(weights[name], 1 - _EPS)
        weights[f'{layer}num_batches_tracked'] = torch.tensor(0)


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    import torch

    from mmdet.apis import init_model, load_config
    from mmdet.checkpoint import read_checkpoint, weights_of
    from mmdet.errors import UserError
    from mmdet.files import atomic_open, check_writable
    from mmdet.models.detectors.torchvision_tracker import coco_categories

    check_writable(Path(args.target), args.target)
    cfg = load_config(args.config)
    if cfg.model.type not in ('MaskTrackRCNN', 'CMaskTrackRCNN'):
        raise UserError(f'{args.config}: is a config of {cfg.model.type}; give one of MaskTrackRCNN or CMaskTrackRCNN')
    cfg.model.bbox_head.num_classes = cfg.model.mask_head.num_classes = len(coco_categories()[1])
    model = init_model(cfg, device='cpu')
    model.init_weights()
    own = model.state_dict()
    converted = convert(weights_of(read_checkpoint(args.source), args.source), args.source)
    wrong = [name for name, value in converted.items() if name not in own or own[name].shape != value.shape]
    if wrong:
        raise UserError(f'{args.config}: has other layers than torchvision\'s Mask R-CNN at {wrong[0]}; take a config '
                        'with ResNet-50, FPN of 256 channels and heads of the published sizes')
    with atomic_open(args.target) as file:
        torch.save({'meta': {'dataset_meta': {'classes': coco_categories()[1]}}, 'state_dict': own | converted}, file)
    print(f'{args.target}: {len(converted)} of {len(own)} tensors from {args.source}, '
          f'{Path(args.target).stat().st_size / 2 ** 20:.1f} MiB')
    return 0


if __name__ == '__main__':
    run_command(main)
