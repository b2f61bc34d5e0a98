"""Losses of ``VidEoMT`` over whole clips: class loss of all queries, mask losses of matched queries.

The losses are Mask2Former's (arXiv 2112.01527), the matching is that of CTVIS and VidEoMT (arXiv 2602.17807).

Symbols: B clips, T frames, Q queries, K classes, n objects of a clip, M = Σ T·n masks of all clips, P points.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor

from mmdet.models.losses.point_sampled import point_bce, point_dice, sample_points, uncertain_points
from mmdet.models.task_modules.hungarian import ClipTargets, HungarianClipMatcher
from mmdet.registry import MODELS, TASK_UTILS

Prediction = tuple[Tensor, Tensor]  # class logits (B, T, Q, K + 1), mask logits (B, T, Q, h, w)


@MODELS.register_module()
class QueryMaskCriterion:
    """Cross-entropy, mask and dice losses of several predictions for the same clips, each matched separately.

    The target of a matched query is its object's label in every frame of the clip, and an empty mask in frames in which
    the object is not visible. Mask and dice losses are averaged over masks, of which every object has T.

    Args:
        matcher: config of the matcher; its ``num_points`` defaults to this class's.
        num_points: P, points per mask.
        class_weight, mask_weight, dice_weight: weights of the three losses.
        no_object_weight: weight of the class "no object" in the cross-entropy.
        rand: function with the signature of ``torch.rand`` that samples points.
    """

    def __init__(self, matcher: dict | None = None, num_points: int = 12544, class_weight: float = 2.0,
                 mask_weight: float = 5.0, dice_weight: float = 5.0, no_object_weight: float = 0.1,
                 rand: Callable[..., Tensor] = torch.rand) -> None:
        self.matcher: HungarianClipMatcher = TASK_UTILS.build(
            dict(type='HungarianClipMatcher') | (matcher or {}), default_args=dict(num_points=num_points))
        self.num_points = num_points
        self.weights = dict(loss_ce=class_weight, loss_mask=mask_weight, loss_dice=dice_weight)
        self.no_object_weight = no_object_weight
        self.rand = rand

    def __call__(self, predictions: Sequence[Prediction], targets: Sequence[ClipTargets]) -> dict[str, Tensor]:
        """Compute the weighted losses of all predictions.

        Args:
            predictions: the final prediction, then the auxiliary ones in the order of their blocks.
            targets: objects of the B clips.

        Returns:
            ``loss_ce``, ``loss_mask``, ``loss_dice`` of the first prediction, ``loss_ce_0``, ... of the second, and so
            on.
        """
        count = self._number_of_masks(predictions[0][0], targets)
        losses: dict[str, Tensor] = {}
        for index, (class_logits, mask_logits) in enumerate(predictions):
            suffix = f'_{index - 1}' if index else ''
            with torch.autocast(class_logits.device.type, enabled=False):
                values = self.unweighted(class_logits.float(), mask_logits.float(), targets, count)
            losses |= {f'{name}{suffix}': self.weights[name] * value for name, value in values.items()}
        return losses

    def unweighted(self, class_logits: Tensor, mask_logits: Tensor, targets: Sequence[ClipTargets],
                   count: Tensor) -> dict[str, Tensor]:
        """Compute the three losses of one prediction without weights; sums over masks are divided by ``count``."""
        pairs = [self.matcher.match(classes, masks, target, self.rand)
                 for classes, masks, target in zip(class_logits, mask_logits, targets)]
        masks = torch.cat([logits[:, queries].flatten(0, 1)
                           for logits, (queries, _) in zip(mask_logits, pairs)])  # (M, h, w)
        true = torch.cat([target.masks[objects].transpose(0, 1).flatten(0, 1)
                          for target, (_, objects) in zip(targets, pairs)])  # (M, H, W)
        losses = dict(loss_ce=self._class_loss(class_logits, targets, pairs))
        if not len(masks):
            zero = masks.sum()  # 0, but connected to the outputs in the autograd graph
            return losses | dict(loss_mask=zero, loss_dice=zero)
        points = uncertain_points(masks, self.num_points, self.rand)
        predicted, expected = sample_points(masks, points), sample_points(true, points)
        return losses | dict(loss_mask=point_bce(predicted, expected).sum() / count,
                             loss_dice=point_dice(predicted, expected).sum() / count)

    def _class_loss(self, logits: Tensor, targets: Sequence[ClipTargets],
                    pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        no_object = logits.shape[-1] - 1
        labels = torch.full(logits.shape[:-1], no_object, device=logits.device)
        for clip, target, (queries, objects) in zip(labels, targets, pairs):
            clip[:, queries] = target.labels[objects]
        weight = logits.new_ones(no_object + 1)
        weight[-1] = self.no_object_weight
        return F.cross_entropy(logits.flatten(0, 2), labels.flatten(), weight)

    @staticmethod
    def _number_of_masks(logits: Tensor, targets: Sequence[ClipTargets]) -> Tensor:
        """Return the average number of masks per process, at least 1."""
        count = logits.new_tensor(sum(target.masks.shape[0] * target.masks.shape[1] for target in targets),
                                  dtype=torch.float32)
        all_reduce(count)
        return (count / get_world_size()).clamp(min=1)
