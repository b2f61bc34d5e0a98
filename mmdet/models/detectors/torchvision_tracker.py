"""torchvision's Mask R-CNN as an online tracker of COCO's categories, without any training.

Built from a config by name; called by mmengine's runner in training and testing. The detector, its weights and its
detections are torchvision's. This project's tracker assigns ids by IoU, class and appearance; the embedding of an
object is the mean of the pyramid's features in its box.

Symbols: N clips, T frames, n objects, C channels of the pyramid, H×W input.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import (
    FasterRCNN,
    MaskRCNN,
    MaskRCNN_ResNet50_FPN_V2_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import FrozenBatchNorm2d

from mmdet.checkpoint import ClassRows
from mmdet.errors import UserError
from mmdet.models.cuda_graphs import InferenceGraphs
from mmdet.models.detectors.base import BaseDetector, is_context
from mmdet.models.roi_heads.mask_paste import paste_masks
from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.ops.device import Launched
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.device_rle import columns_to_rle, masks_at_once

_MASK_PADDING = 1  # torchvision pads region masks by one cell before it pastes them
_STAGES = (('conv1', 'bn1'), ('layer1',), ('layer2',), ('layer3',), ('layer4',))  # modules of the ResNet, in order
_COUNTER = 'num_batches_tracked'
_FORMER_NAMES = (
    (r'^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$', r'\1.0.\2'),
    (r'^rpn\.head\.conv\.(weight|bias)$', r'rpn.head.conv.0.0.\1'),
    *((rf'^roi_heads\.mask_head\.mask_fcn{number + 1}\.', f'roi_heads.mask_head.{number}.0.') for number in range(4)),
)
COCO_INDICES = 91  # torchvision's outputs: background and COCO's ids 1 to 90, of which 80 are categories
_PUBLISHED = {'maskrcnn_resnet50_fpn': MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
              'maskrcnn_resnet50_fpn_v2': MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1}


def coco_categories() -> tuple[list[int], list[str]]:
    """Return COCO's 80 category ids, ascending, and their names in torchvision."""
    names = _PUBLISHED['maskrcnn_resnet50_fpn'].meta['categories']
    ids = [index for index, name in enumerate(names) if name not in ('__background__', 'N/A')]
    return ids, [names[index] for index in ids]


def current_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the parameter names of torchvision's files of 2019, such as the first Mask R-CNN's, to current names."""
    renamed = {}
    for name, value in weights.items():
        for pattern, replacement in _FORMER_NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


@MODELS.register_module()
class TorchvisionTracker(BaseDetector):
    """torchvision's Mask R-CNN with a tracker.

    torchvision's network resizes images on the device: the pipeline must not resize them, and the data preprocessor
    must return RGB values in [0, 1] without padding (mean 0, std 255, ``pad_size_divisor=1``).

    Args:
        name: ``'maskrcnn_resnet50_fpn'`` or ``'maskrcnn_resnet50_fpn_v2'``.
        tracker: config; embeddings have C channels.
        num_classes: 80 means COCO's: labels 0 to 79 are its categories in ascending order of their ids. torchvision has
            91 outputs; detections of the ten classes that are not categories are dropped. Any other number: labels 0 to
            ``num_classes`` − 1.
        min_size, max_size: the shorter side of an image is resized to ``min_size`` pixels, the longer to at most
            ``max_size``.
        mask_thr: pixels with a greater probability belong to the mask.
        trainable_layers: number of trainable stages of the ResNet, from the last: 3 trains ``layer2`` to ``layer4``, 5
            everything.
        net_args: further arguments of torchvision's constructor, such as ``dict(box_score_thresh=0.3)``.
        data_preprocessor: config.
        init_cfg: mmengine's.
        cuda_graphs: on a GPU, replay the backbone as a CUDA graph in testing, one per shape.

    Raises:
        UserError: if the name is unknown, or the data preprocessor normalises or pads.
    """

    net: Any  # torchvision's detectors have attributes that nn.Module does not declare
    class_layers = {'net.roi_heads.box_predictor.cls_score': ClassRows(background='first'),
                    'net.roi_heads.box_predictor.bbox_pred': ClassRows(4, background='first'),
                    'net.roi_heads.mask_predictor.mask_fcn_logits': ClassRows(background='first')}

    def __init__(self, name: str, tracker: dict, num_classes: int = 80, min_size: int = 800, max_size: int = 1333,
                 mask_thr: float = 0.5, trainable_layers: int = 3, net_args: dict | None = None,
                 data_preprocessor: dict | None = None, init_cfg: dict | None = None, cuda_graphs: bool = True) -> None:
        super().__init__(tracker, data_preprocessor, init_cfg)
        if name not in _PUBLISHED:
            raise UserError(f'TorchvisionTracker name={name!r} is unknown; use one of {", ".join(_PUBLISHED)}')
        _check_preprocessor(data_preprocessor or {})
        indices = coco_categories()[0] if num_classes == 80 else range(1, num_classes + 1)
        self.net = _build(name, COCO_INDICES if num_classes == 80 else num_classes + 1, trainable_layers,
                          dict(min_size=min_size, max_size=max_size) | (net_args or {}))
        self.mask_thr, self.cuda_graphs = mask_thr, cuda_graphs
        self._graphs = InferenceGraphs()
        index_of_label = torch.tensor(list(indices))
        label_of_index = torch.full((self.net.roi_heads.box_predictor.cls_score.out_features,), -1)
        label_of_index[index_of_label] = torch.arange(len(index_of_label))
        self.register_buffer('_index_of_label', index_of_label, persistent=False)
        self.register_buffer('_label_of_index', label_of_index, persistent=False)
        # pasting follows torchvision: boxes truncated to whole pixels, x2 and y2 inclusive
        self._pasting, self._annotations = BoxConvention(legacy=True), BoxConvention(legacy=False)

    def convert_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert torchvision's names to this module's (see :func:`mmdet.checkpoint.load_weights`)."""
        own = {name: value for name, value in weights.items() if name.startswith('net.')}
        theirs = current_names({name: value for name, value in weights.items() if name not in own})
        converted = own | {f'net.{name}': value for name, value in theirs.items()}
        # these counters are unused: they may be missing in a file or in the network
        counters = {name: value for name, value in self.state_dict().items() if name.endswith(_COUNTER)}
        return counters | {name: value for name, value in converted.items()
                           if not name.endswith(_COUNTER) or name in counters}

    def limit_input_size(self, longest: int) -> None:
        """Reduce ``min_size`` and ``max_size`` so that no side of a resized image exceeds ``longest`` pixels."""
        transform = self.net.transform
        transform.max_size = min(transform.max_size, longest)
        transform.min_size = tuple(min(size, longest) for size in transform.min_size)

    def extract_feat(self, images: Tensor) -> Sequence[Tensor]:
        """Compute the pyramid's maps of images (B, 3, H, W), RGB in [0, 1], which are resized first."""
        return tuple(self.net.backbone(self.net.transform(list(images))[0].tensors).values())

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Compute torchvision's losses for all frames; the tracker's embeddings are not trained."""
        images, targets = [], []
        for clip, frames in zip(inputs, data_samples):
            for image, frame in zip(clip, frames):
                height, width = frame.img_shape[:2]
                truth = frame.gt_instances
                boxes = self._annotations.from_annotation(truth.bboxes, frame.scale_factor)
                valid = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
                images.append(image[:, :height, :width])
                targets.append(dict(boxes=boxes[valid], labels=self._index_of_label[truth.labels[valid]],
                                    masks=truth.masks[valid][:, :height, :width]))
        losses = self.net(images, targets)
        return {name if 'loss' in name else f'loss_{name}': value for name, value in losses.items()}

    @torch.no_grad()
    def detect(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> Iterator[list[InstanceData]]:
        """Detect objects in the frames of one clip at a time."""
        clips: list[Callable[[], list[InstanceData]]] = []
        for images, clip in zip(inputs, data_samples):
            kept = [index for index, frame in enumerate(clip) if not is_context(frame)]
            clips.append(self._launch([images[index] for index in kept], [clip[index] for index in kept])
                         if kept else list)
        return (read() for read in clips)

    def _launch(self, images: Sequence[Tensor], frames: Sequence[DetDataSample]) -> Callable[[], list[InstanceData]]:
        """Launch the network; return a function that pastes the masks and copies the detections to the host."""
        net = self.net
        shapes = [frame.img_shape[:2] for frame in frames]
        resized, _ = net.transform([image[:, :height, :width] for image, (height, width) in zip(images, shapes)])
        graphed = self.cuda_graphs and not self.training and self._graphs.available(resized.tensors.device)
        maps = self._graphs.run(self._maps, resized.tensors) if graphed else self._maps(resized.tensors)
        proposals, _ = net.rpn(resized, maps)
        found, _ = net.roi_heads(maps, proposals, resized.image_sizes)
        regions = net.roi_heads.box_roi_pool(maps, [result['boxes'] for result in found], resized.image_sizes)
        embeddings = regions.float().mean(dim=(2, 3)).split([len(result['boxes']) for result in found])
        work = Launched(resized.tensors.device)

        def read() -> list[InstanceData]:
            with work.results():
                return [self._instances(result, vectors, size, frame.ori_shape[:2])
                        for result, vectors, size, frame in zip(found, embeddings, resized.image_sizes, frames)]

        return read

    def _maps(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the pyramid's maps, by torchvision's names, of resized images."""
        return self.net.backbone(images)

    def train(self, mode: bool = True) -> TorchvisionTracker:
        self._graphs.clear()  # training may replace tensors that the graphs read
        return super().train(mode)

    def _instances(self, result: dict[str, Tensor], embeddings: Tensor, size: tuple[int, int],
                   ori_shape: tuple[int, int]) -> InstanceData:
        """Convert torchvision's result of one frame, on the CPU, with boxes in pixels of the original image."""
        labels = self._label_of_index[result['labels']]
        named = labels >= 0
        boxes = resize_boxes(result['boxes'].float(), size, ori_shape)[named]
        masks, scale = expand_masks(result['masks'].float()[named], padding=_MASK_PADDING)
        rles: list[dict] = []
        chunk = masks_at_once(*ori_shape)
        for probs, places in zip(masks[:, 0].split(chunk), expand_boxes(boxes, scale).split(chunk)):
            rles += columns_to_rle(paste_masks(probs, places, *ori_shape, self._pasting, self.mask_thr))
        scores = result['scores'].float()[named]
        return InstanceData(bboxes=boxes.cpu(), scores=scores.cpu(), labels=labels[named].cpu(),
                            embeddings=embeddings[named].cpu(), masks=rles)


def _build(name: str, num_outputs: int, trainable_layers: int, arguments: dict) -> nn.Module:
    """Build the network of torchvision's published weights, with random weights."""
    known = set(signature(MaskRCNN).parameters) | set(signature(FasterRCNN).parameters)
    unknown = [key for key in arguments if key not in known]  # torchvision would ignore them
    if unknown:
        raise UserError(f'TorchvisionTracker {name}: net_args has {unknown[0]!r}, which torchvision does not know; it '
                        f'has {", ".join(sorted(key for key in known if "_" in key))}')
    if name == 'maskrcnn_resnet50_fpn_v2':
        net = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=num_outputs, **arguments)
    else:
        # torchvision's function uses these batch norms and their eps only if it downloads the weights itself
        body = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
        net = MaskRCNN(_resnet_fpn_extractor(body, len(_STAGES)), num_classes=num_outputs, **arguments)
        overwrite_eps(net, 0.0)
    for parameter_name, parameter in net.backbone.body.named_parameters():
        stage = next(index for index, names in enumerate(_STAGES) if parameter_name.startswith(names))
        if stage < len(_STAGES) - trainable_layers:
            parameter.requires_grad_(False)
    return net


def _check_preprocessor(config: Mapping[str, Any]) -> None:
    expected = dict(mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True, pad_size_divisor=1)
    given = dict(pad_size_divisor=1) | {name: config[name] for name in expected if name in config}
    if config and given != expected:
        raise UserError('TorchvisionTracker normalises and pads by itself; set model.data_preprocessor=dict('
                        "type='TrackDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True, "
                        'pad_size_divisor=1)')
