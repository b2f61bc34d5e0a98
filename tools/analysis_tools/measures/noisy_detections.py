"""Simulated detections from annotations with noise, to evaluate a tracker without a detector.

Called by tools/analysis_tools/evaluate_tracker.py. There are two steps: :func:`layered_videos` overlays the objects of
several videos, so that they occlude each other; :class:`NoisyDetector` simulates detections of the objects.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torchvision.ops import batched_nms, roi_align

from mmdet.datasets.transforms import read_frame
from mmdet.structures.masks import decode_masks, encode_masks
from mmdet.structures.vis_json import Track, Video

POOLED_STRIDES = (8, 16, 32)  # strides of the feature maps from which embeddings are pooled
NMS_THR = 0.5  # IoU threshold of the class-wise non-maximum suppression
MIN_AREA = 64  # minimum visible area of a detection in pixels


@dataclass
class LayeredFrame:
    """A frame and its visible objects.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        objects: the number of each of the n visible objects in its video.
        labels: (n,) int64.
        masks: (n, H, W) uint8, the visible part of each object.
    """

    image: np.ndarray
    objects: list[int]
    labels: np.ndarray
    masks: np.ndarray


def layered_videos(videos: Sequence[Video], tracks: Sequence[Track], label_of: dict[int, int], folder: Path,
                   layers: int, stride: int, rng: np.random.Generator) -> Iterator[list[LayeredFrame]]:
    """Yield each video, overlaid with the objects of ``layers`` − 1 other videos of its size, chosen at random.

    Each of the other videos is visible during a random interval, so that its objects appear and disappear.

    Args:
        videos: videos, whose ``file_names`` are relative to ``folder``.
        tracks: annotations of all videos.
        label_of: label, from 0, of each category id.
        folder: folder of the frames.
        layers: number of videos that are combined.
        stride: step between the frames used.
        rng: random number generator for videos and intervals.
    """
    of_video = {video.id: [track for track in tracks if track.video_id == video.id] for video in videos}
    for video in videos:
        others = [other for other in videos
                  if other.id != video.id and (other.height, other.width) == (video.height, video.width)]
        chosen = rng.permutation(len(others))[:layers - 1]
        parts = [video, *(others[index] for index in chosen)]
        length = min(part.length for part in parts)
        begins = [0, *rng.integers(0, length // 2 + 1, len(chosen)).tolist()]
        ends = [length, *(begin + int(rng.integers(length // 3, length)) for begin in begins[1:])]
        yield [_layered_frame([part if begin <= time < end else None for part, begin, end in zip(parts, begins, ends)],
                              parts, of_video, label_of, folder, time) for time in range(0, length, stride)]


def _layered_frame(shown: Sequence[Video | None], parts: Sequence[Video], of_video: dict[int, list[Track]],
                   label_of: dict[int, int], folder: Path, time: int) -> LayeredFrame:
    image = read_frame(str(folder / parts[0].file_names[time])).copy()
    objects: list[int] = []
    labels: list[int] = []
    masks = np.zeros((0, *image.shape[:2]), np.uint8)
    number = 0
    for part, part_or_none in zip(parts, shown):
        present = [(number + index, track.category_id, rle) for index, track in enumerate(of_video[part.id])
                   if part_or_none is not None and (rle := track.rles[time]) is not None]
        number += len(of_video[part.id])
        if not present:
            continue
        own = decode_masks([rle for _, _, rle in present])
        if part is not parts[0]:
            over = own.any(axis=0)
            image[over] = read_frame(str(folder / part.file_names[time]))[over]
            masks = masks * ~over
        masks = np.concatenate([masks, own])
        objects += [index for index, _, _ in present]
        labels += [label_of[category_id] for _, category_id, _ in present]
    visible = [row for row, mask in enumerate(masks) if mask.sum() >= MIN_AREA]
    return LayeredFrame(image, [objects[row] for row in visible], np.array([labels[row] for row in visible], np.int64),
                        masks[visible])


@dataclass(frozen=True)
class Noise:
    """Parameters of the noise of the detections.

    Args:
        jitter: standard deviation of the position of each side of a box, relative to the box's width or height.
        drop: probability that an object is not detected in a frame.
        gap: probability for each frame that an object is not detected in the next ``gap_length`` frames.
        gap_length: number of frames in a gap.
        double: probability that an object is detected twice. Non-maximum suppression removes the second detection
            unless it has another class or a low IoU.
        wrong_label: probability that a detection has a wrong class.
    """

    jitter: float = 0.07
    drop: float = 0.1
    gap: float = 0.03
    gap_length: int = 4
    double: float = 0.1
    wrong_label: float = 0.1


class NoisyDetector:
    """Simulates detections of objects, with embeddings from a backbone.

    Args:
        backbone: a backbone of this project with ``out_strides``. Its feature maps with strides in
            :data:`POOLED_STRIDES` are averaged over a box, L2-normalised and concatenated to the embedding of the box.
        mean, std: mean and standard deviation of the RGB values for the backbone.
        num_classes: number of classes, for wrong labels.
        noise: parameters of the noise.
    """

    def __init__(self, backbone: Any, mean: Sequence[float], std: Sequence[float], num_classes: int,
                 noise: Noise) -> None:
        self.backbone, self.num_classes, self.noise = backbone.eval(), num_classes, noise
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))

    def __call__(self, frames: Sequence[LayeredFrame],
                 rng: np.random.Generator) -> Iterator[tuple[InstanceData, list[int]]]:
        """Yield for each frame the detections, in descending order of score, and the object number of each.

        The second detection of the object ``number`` has the object number −1 − ``number``.
        """
        lost: dict[int, int] = {}
        for frame in frames:
            boxes, scores, labels, masks, owners = [], [], [], [], []
            for number, label, mask in zip(frame.objects, frame.labels.tolist(), frame.masks):
                if lost.get(number, 0) == 0 and rng.random() < self.noise.gap:
                    lost[number] = self.noise.gap_length
                lost[number] = max(lost.get(number, 0) - 1, 0)
                if lost[number] or rng.random() < self.noise.drop:
                    continue
                for copy in range(1 + (rng.random() < self.noise.double)):
                    boxes.append(_jittered(mask, self.noise.jitter * (1 + copy), rng))
                    scores.append(rng.uniform(0.2, 0.6) if copy else rng.uniform(0.5, 1.0))
                    wrong = rng.random() < self.noise.wrong_label
                    labels.append((label + rng.integers(1, self.num_classes)) % self.num_classes
                                  if wrong and self.num_classes > 1 else label)
                    masks.append(mask)
                    owners.append(-1 - number if copy else number)
            bboxes = torch.tensor(np.array(boxes, np.float32).reshape(-1, 4))
            all_scores = torch.tensor(np.array(scores, np.float32))
            all_labels = torch.tensor(np.array(labels, np.int64))
            kept = batched_nms(bboxes, all_scores, all_labels, NMS_THR)
            yield InstanceData(
                bboxes=bboxes[kept], scores=all_scores[kept], labels=all_labels[kept],
                embeddings=self._embed(frame.image, bboxes[kept]),
                masks=encode_masks(np.array([masks[index] for index in kept.tolist()]))), [
                    owners[index] for index in kept.tolist()]

    @torch.no_grad()
    def _embed(self, image: np.ndarray, bboxes: Tensor) -> Tensor:
        rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1).float()
        maps = self.backbone(((rgb - self.mean) / self.std)[None])
        parts = [roi_align(level, [bboxes], 7, 1 / stride, 2, aligned=True).mean(dim=(2, 3))
                 for level, stride in zip(maps, self.backbone.out_strides) if stride in POOLED_STRIDES]
        return torch.cat([nn.functional.normalize(part) for part in parts], dim=1)


def _jittered(mask: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
    size = np.tile(box[2:] - box[:2], 2)
    moved = box + rng.normal(0, jitter, 4) * size
    moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
    return np.clip(moved, 0, np.tile(mask.shape[::-1], 2))
