"""Synthetic batches of any size for benchmarks and tests, in the format of the models' inputs."""
from __future__ import annotations

import torch
from mmengine.structures import InstanceData

from mmdet.structures import DetDataSample, TrackDataSample


def synthetic_frame(frame_id: int, size: tuple[int, int], num_objects: int, num_classes: int,
                    original: tuple[int, int], device: torch.device | str, generator: torch.Generator) -> DetDataSample:
    """Make a frame of ``size`` (h, w) with elliptic objects, whose ids are 1..num_objects in every frame."""
    height, width = size
    centers = torch.rand(num_objects, 2, generator=generator) * 0.6 + 0.2
    extent = torch.rand(num_objects, 2, generator=generator) * 0.3 + 0.1
    scale = torch.tensor([width, height], dtype=torch.float32)
    boxes = torch.cat([(centers - extent / 2) * scale, (centers + extent / 2) * scale], dim=1)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    cx, cy = (boxes[:, [0, 2]].mean(1), boxes[:, [1, 3]].mean(1))
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    masks = (((x - cx[:, None, None]) / (w[:, None, None] / 2)) ** 2
             + ((y - cy[:, None, None]) / (h[:, None, None] / 2)) ** 2 <= 1).to(torch.uint8)
    instances = InstanceData(bboxes=boxes, masks=masks, instances_id=torch.arange(1, num_objects + 1),
                             labels=torch.randint(num_classes, (num_objects,), generator=generator))
    return DetDataSample(
        metainfo=dict(frame_id=frame_id, scale_factor=width / original[1], ori_shape=original, img_shape=size),
        gt_instances=instances.to(device))


def synthetic_clips(num_clips: int, clip_len: int, size: tuple[int, int] = (480, 864), num_objects: int = 5,
                    num_classes: int = 5, original: tuple[int, int] = (720, 1280),
                    device: torch.device | str = 'cpu', seed: int = 0) -> tuple[torch.Tensor, list[TrackDataSample]]:
    """Make random normalised inputs (num_clips, clip_len, 3, h, w) and their clips with ground truth.

    ``size`` and ``original`` are (h, w) of the network's input and of the original frames.
    """
    generator = torch.Generator().manual_seed(seed)
    clips = []
    for _ in range(num_clips):
        clip = TrackDataSample()
        clip.video_data_samples = [synthetic_frame(index, size, num_objects, num_classes, original, device,
                                                   generator)
                                   for index in range(clip_len)]
        clips.append(clip)
    inputs = torch.randn(num_clips, clip_len, 3, *size, generator=generator).to(device)
    return inputs, clips
