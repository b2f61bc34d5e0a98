"""Models with random weights that cost as much as trained ones: as many detections, with masks of usual size.

Called by the measurements of tools/analysis_tools/measures. What follows the network (non-maximum suppression, masks,
RLE, tracking) costs time for each detection, and the default initialisation of a detector gives none, or far too many.
"""
from __future__ import annotations

import torch
from mmengine.config import Config
from torch import nn
from torchvision.models.resnet import Bottleneck

from mmdet.models.dense_heads import FCOSHead
from mmdet.registry import MODELS

_BOX_LAYERS = ('rpn_reg', 'fc_reg', 'bbox_pred')  # of two-stage detectors: deltas from a box to the next one
_CLASS_LAYERS = ('fc_cls', 'cls_score')
_MASK_LAYERS = ('conv_logits', 'mask_fcn_logits')


def build_model(cfg: Config, device: torch.device) -> nn.Module:
    """Build the config's model with random weights that, as trained ones, give many objects and large masks."""
    model_cfg = cfg.model.copy()
    model_cfg.data_preprocessor = None
    model_cfg.get('backbone', {}).pop('init_cfg', None)
    torch.manual_seed(0)
    model = MODELS.build(model_cfg)
    with torch.no_grad():
        _dense_predictions(getattr(model, 'bbox_head', None))
        _region_predictions(model)
    return model.to(device)


def _dense_predictions(head: object) -> None:
    """Give the dense heads scores above their threshold and mask logits that are positive nearly everywhere."""
    if isinstance(head, FCOSHead):
        # of one class: the time of its NMS depends on the number of scores above the threshold, and a trained head has
        # hundreds to two thousand of them in an image, not one for each class of each location
        nn.init.zeros_(head.fcos_cls.bias[:1])
    elif hasattr(head, 'fcos_cls'):
        nn.init.zeros_(head.fcos_cls.bias)
    for name in ('mask_fuse', 'track_fuse'):
        if hasattr(head, name):
            nn.init.ones_(getattr(head, name).bias)


def _region_predictions(model: nn.Module) -> None:
    """Give two-stage detectors boxes similar to their anchors, of one class, with masks that fill them."""
    for path, module in model.named_modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)  # otherwise activations grow from block to block
        name = path.rpartition('.')[2]
        if name in _BOX_LAYERS:
            nn.init.zeros_(module.weight)
        elif name in _CLASS_LAYERS:
            nn.init.normal_(module.weight, std=0.01)
            nn.init.constant_(module.bias[1:2], 3.0)  # a probability of about one third
        elif name in _MASK_LAYERS:
            nn.init.zeros_(module.weight)
            nn.init.ones_(module.bias)
