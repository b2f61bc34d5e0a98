"""A memory of the objects of a video's previous frame, the context set of the conditional neural process (section 3.2).

The units of :class:`CNPMemory` are learned over all videos, and its context is a function of a location's own feature.
Here a unit is an object of the same video: its feature, box and class in the previous frame, in testing a detection, in
training an object of the reference frame. Called by the dense head; not part of the published model.

Symbols: B images, C feature channels, N locations n of all levels with features c_n, V units k, each empty or with a
feature u_k, a box and a class; K classes.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.arguments import checked_number, checked_positive
from mmdet.checkpoint import ClassRows
from mmdet.errors import UserError
from mmdet.models.layers.pyramid import flatten_levels
from mmdet.models.task_modules.fast_nms import Detections
from mmdet.models.task_modules.padded_targets import PaddedTargets
from mmdet.models.task_modules.points import Grid, bbox2distance
from mmdet.ops.device import device_constant
from mmdet.registry import MODELS
from mmdet.structures import pairwise_iou

_LEAST = 0.01  # distances are clamped to [_LEAST, 1 − _LEAST] before the logit
_FALSE_SHIFT = 2.0  # boxes of false objects are shifted by up to this many widths and heights


class Objects(NamedTuple):
    """Objects of B images, padded to V.

    Attributes:
        bboxes: (B, V, 4) x1, y1, x2, y2 in pixels.
        labels: (B, V) int64, 0-based.
        valid: (B, V) bool, False for padding.
    """

    bboxes: Tensor
    labels: Tensor
    valid: Tensor


def nearness(distances: Tensor) -> Tensor:
    """Compute how near points are to the centres of boxes: 1 in the centre, 0 on the border, −1 half a box outside.

    Args:
        distances: (..., 4) left, top, right, bottom to the sides of the box, positive inside.

    Returns:
        (...), the smallest distance in halves of the width or height of the box, at least −1.
    """
    size = (distances[..., :2] + distances[..., 2:]).clamp(min=1)  # w, h
    return (torch.minimum(distances[..., :2], distances[..., 2:]) * 2 / size).amin(dim=-1).clamp(min=-1)


def imperfect(objects: Objects, num_classes: int, drop_frame: float, drop_object: float, false_object: float,
              wrong_class: float, box_noise: float) -> Objects:
    """Change annotated objects randomly, so that they resemble detections; see :class:`VideoMemory`."""
    bboxes, labels, valid = objects
    size = (bboxes[..., 2:] - bboxes[..., :2]).repeat(1, 1, 2)  # w, h, w, h
    chance = torch.rand(4, *labels.shape, device=bboxes.device)
    kept = valid & (chance[0] >= drop_object) & (torch.rand_like(chance[0, :, :1]) >= drop_frame)
    false = chance[1] < false_object
    shift = (2 * torch.rand_like(bboxes[..., :2]) - 1).repeat(1, 1, 2) * _FALSE_SHIFT  # x, y, x, y
    bboxes = bboxes + (box_noise * torch.randn_like(bboxes) + shift * false[..., None]) * size
    others = (chance[2] * num_classes).long().clamp(max=num_classes - 1)  # 1.0 · K rounded in float32
    return Objects(bboxes, torch.where(false | (chance[3] < wrong_class), others, labels), kept)


@MODELS.register_module()
class VideoMemory(BaseModule):
    """Objects of the previous frame as units, read by softmax attention over similarity and position.

    A unit holds û_k = u_k/‖u_k‖, the direction of the mean feature of the locations in the object's box, which are
    weighted by their :func:`nearness` ρ, further its box and its class. A location n reads unit k with the weight ::

        a_nk = exp(e_nk) / (1 + Σ_j exp(e_nj)),  e_nk = (α·cos(c_n, u_k) + β·ρ_nk − γ) / T

    where α, β and γ are learned. The 1 is a unit without content: a location to which no object fits reads 0, and so do
    all locations if there are no objects. The context is an MLP without biases ::

        context_n = W_out·GELU(Σ_k a_nk·(W·[û_k, y_nk] + class embedding_k))

    where y_nk are the logits of the distances (l, t, r, b) of the reading location n to the sides of box k, relative to
    the image, which is what the head's box branch predicts. Its output p_n and the box that is read are averaged, with
    a learned weight λ: p_n ← (1 − λ·Σ_k a_nk)·p_n + λ·Σ_k a_nk·y_nk. Gradients flow to the parameters, not to the
    features. Always computed in float32.

    Training imitates testing. The class features of the reference frame and its annotated objects, changed as by a
    detector's mistakes, are written to empty units of each image, then the key frame reads. In testing, the detections
    of a frame with a score above ``score_thr`` replace all units of the video, except for those that overlap a better
    one, since one object may be detected under several classes; the first frame of a video reads empty units.

    Args:
        channels: C.
        num_classes: K.
        score_thr: in testing, detections with a score above this are written; with 1 there are none, and the memory
            remains empty.
        read_temperature: T, above 0.
        box_prior: initial λ, below 1; 0: the output of the box branch is not changed.
        drop_frame: in training, probability that an image has no objects, as the first frame of a video.
        drop_object: probability that an object is not written, as if it was not detected.
        false_object: probability that the box of an object is shifted by up to twice its size, and its class random.
        wrong_class: probability that the class of an object is random.
        box_noise: standard deviation of the sides of a box, relative to its width and height.

    Raises:
        UserError: an argument has no valid value.
    """

    class_layers = {'classes': ClassRows()}
    keep_float32 = True  # also in half-precision testing

    def __init__(self, channels: int, num_classes: int, score_thr: float = 0.3, read_temperature: float = 0.1,
                 box_prior: float = 0.5, drop_frame: float = 0.3, drop_object: float = 0.2, false_object: float = 0.1,
                 wrong_class: float = 0.1, box_noise: float = 0.05, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.mistakes = dict(drop_frame=drop_frame, drop_object=drop_object, false_object=false_object,
                             wrong_class=wrong_class, box_noise=box_noise)
        for name, value in {'score_thr': score_thr, 'box_prior': box_prior, **self.mistakes}.items():
            checked_number(f'VideoMemory {name}', value, 0, 1)
        if box_prior == 1:
            raise UserError('VideoMemory box_prior=1 must be below 1: the box branch would have no effect')
        checked_positive('VideoMemory read_temperature', read_temperature)
        self.channels, self.num_classes = channels, num_classes
        self.score_thr, self.read_temperature = score_thr, read_temperature
        # logit of λ
        self.box_prior = nn.Parameter(torch.tensor(box_prior).logit()) if box_prior else None
        self.addressing = nn.Parameter(torch.tensor([1.0, 1.0, 0.5]))  # α, β, γ
        self.classes = nn.Embedding(num_classes, channels)
        self.values = nn.Linear(channels + 4, channels, bias=False)
        self.out = nn.Linear(channels, channels, bias=False)
        # feature, box and class in equal parts, of a variance of 1 together
        for weight in (self.classes.weight, self.values.weight):
            nn.init.normal_(weight, std=3 ** -0.5)

    def empty_units(self, number: int) -> Tensor:
        """Return ``number`` empty units of one video: (1, V, C + 6)."""
        return self.out.weight.new_zeros(1, number, self.channels + 6)

    @torch.no_grad()
    def write(self, feats: Sequence[Tensor], grid: Grid, objects: Objects) -> Tensor:
        """Compute the units of B videos after a frame, one for each of its objects.

        An object whose values are not finite is not written.

        Args:
            feats: class features of the frame, levels (B, C, h_l, w_l).
            grid: its locations.
            objects: its objects.

        Returns:
            (B, V, C + 6): feature, box relative to the image, label, and 1; 0 throughout if empty.
        """
        with torch.autocast(feats[0].device.type, enabled=False):
            weights = nearness(bbox2distance(grid.points, objects.bboxes.float())).clamp(min=0).mT  # (B, V, N)
            means = weights @ flatten_levels(feats) / (weights.sum(dim=2, keepdim=True) + 1e-6)
            rows = torch.cat([means, objects.bboxes / _extent(grid, means), objects.labels[..., None],
                              torch.ones_like(means[..., :1])], dim=2)
            kept = objects.valid & rows.isfinite().all(dim=2)
            return torch.where(kept[..., None], rows, 0.0)

    def write_annotated(self, feats: Sequence[Tensor], grid: Grid, targets: PaddedTargets) -> Tensor:
        """Compute the units after a frame of a training from its annotated objects; see :meth:`write`."""
        objects = Objects(targets.gt_bboxes, targets.gt_labels, targets.valid)
        return self.write(feats, grid, imperfect(objects, self.num_classes, **self.mistakes))

    def write_detected(self, feats: Sequence[Tensor], grid: Grid, found: Detections, max_iou: float) -> Tensor:
        """Compute the units after a frame of a test from its confident detections; see :meth:`write`.

        Those whose IoU with a better one exceeds ``max_iou`` are not written.
        """
        # where both boxes are empty, the IoU is NaN
        worst = pairwise_iou(found.bboxes).nan_to_num().triu(diagonal=1).amax(dim=1)  # (B, V)
        chosen = found.valid & (found.scores > self.score_thr) & (worst <= max_iou)
        return self.write(feats, grid, Objects(found.bboxes, found.labels, chosen))

    def forward(self, feats: Sequence[Tensor], grid: Grid, units: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Read the contexts of all locations, and what the output of the box branch is averaged with.

        Args:
            feats: class features, levels (B, C, h_l, w_l).
            grid: their locations.
            units: (B, V, C + 6), see :meth:`write`.

        Returns:
            The contexts of each level (B, C, h_l, w_l), and maps (B, 5, h_l, w_l) of λ·Σ_k a_nk and λ·Σ_k a_nk·y_nk,
            which are 0 without ``box_prior``.
        """
        with torch.autocast(feats[0].device.type, enabled=False):
            features = flatten_levels(feats).detach()  # c: (B, N, C)
            directions = F.normalize(units[..., :self.channels], dim=2)  # û: (B, V, C)
            bboxes, labels, written = units[..., -6:-2], units[..., -2].long(), units[..., -1] > 0
            extent = _extent(grid, features)
            distances = bbox2distance(grid.points, bboxes * extent)  # (B, N, V, 4)
            cosine, near, threshold = self.addressing
            scores = cosine * (F.normalize(features, dim=2) @ directions.mT) + near * nearness(distances) - threshold
            scores = (scores / self.read_temperature).masked_fill(~written[:, None], -torch.inf)  # e: (B, N, V)
            attention = F.pad(scores, (1, 0)).softmax(dim=2)[..., 1:]  # a: (B, N, V)
            boxes = (attention[..., None] * (distances / extent).logit(_LEAST)).sum(dim=2)  # Σ_k a_nk·y_nk: (B, N, 4)
            # W is linear: its feature part is applied to V units instead of N locations
            of_features, of_boxes = self.values.weight.split([self.channels, 4], dim=1)
            hidden = attention @ (directions @ of_features.T + self.classes(labels)) + boxes @ of_boxes.T
            contexts = self.out(F.gelu(hidden))  # (B, N, C)
            prior = torch.cat([attention.sum(dim=2, keepdim=True), boxes], dim=2)
            prior = torch.zeros_like(prior) if self.box_prior is None else prior * self.box_prior.sigmoid()
            return _levels(contexts, grid), _levels(prior, grid)


def _levels(rows: Tensor, grid: Grid) -> list[Tensor]:
    """Convert rows (B, N, c) to maps of each level (B, c, h_l, w_l)."""
    sizes = [height * width for height, width in grid.level_sizes]
    return [level.mT.unflatten(2, size) for level, size in zip(rows.split(sizes, dim=1), grid.level_sizes)]


def _extent(grid: Grid, like: Tensor) -> Tensor:
    height, width = grid.size
    return device_constant((width, height) * 2, like.device)
