"""Frames with moving shapes over a textured background, and the results of a tracker for them."""
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

from mmdet.structures import DetDataSample

NAMES = ('seal', 'giant panda', 'person', 'dolphin')


def make_scene(
    width: int, height: int, time: int = 0, objects: int = 4, seed: int = 0
) -> tuple[np.ndarray, InstanceData]:
    """A frame (H, W, 3) uint8 BGR and its objects, at a time of their motion."""
    rng = np.random.default_rng(seed)
    rows = np.linspace(0, 1, height)[:, None, None]
    sky, grass = np.array([230, 190, 140]) * (1 - rows / 2), np.array([70, 120, 100]) * (0.6 + rows * 0.6)
    image = np.where(rows < 0.45, sky, grass)
    grain = cv2.resize(rng.normal(0, 14, (height // 6 + 2, width // 6 + 2)), (width, height))
    noise = np.random.default_rng([seed, time]).normal(0, 3, (height, width))
    image = np.clip(image + (grain + noise)[..., None], 0, 255).astype(np.uint8)
    masks = []
    for index in range(objects):
        center = rng.uniform(0.2, 0.8, 2) * (width, height) + rng.uniform(-0.01, 0.01, 2) * (width, height) * time
        radius = rng.uniform(0.1, 0.2) * height
        mask = np.zeros((height, width), np.uint8)
        if index % 2:
            angle = np.arange(10) * np.pi / 5 + time * 0.05
            reach = np.where(np.arange(10) % 2, 0.6, 1.3) * radius
            star = center + np.stack([np.cos(angle), np.sin(angle)], axis=1) * reach[:, None]
            cv2.fillPoly(mask, [star.astype(np.int32)], 1)
        else:
            axes = (max(int(radius * 1.5), 1), max(int(radius), 1))
            cv2.ellipse(mask, center.astype(int).tolist(), axes, 20, 0, 360, 1, -1)
        mask[int(center[1].clip(0, height - 1)), int(center[0].clip(0, width - 1))] = 1  # never empty
        image[mask > 0] = rng.integers(0, 256, 3)
        masks.append(mask_utils.encode(np.asfortranarray(mask)))
    boxes = mask_utils.toBbox(masks).reshape(-1, 4) if masks else np.zeros((0, 4))
    boxes[:, 2:] += boxes[:, :2]
    return image, InstanceData(
        bboxes=boxes.astype(np.float32),
        scores=rng.uniform(0.6, 1, objects),
        labels=rng.integers(0, len(NAMES), objects),
        instances_id=np.arange(objects),
        uncertainties=rng.uniform(0.02, 0.2, (objects, 4)),
        masks=masks)


@pytest.fixture(name='make_scene')
def make_scene_fixture() -> Callable:
    return make_scene


@pytest.fixture
def make_video() -> Callable:
    """A function (width, height, frames, video_id, folder) → list of (image, DetDataSample)."""

    def make(width: int, height: int, frames: int, video_id: int = 1, folder: str = 'video') -> list:
        made = []
        for frame_id in range(frames):
            image, instances = make_scene(width, height, frame_id, seed=video_id)
            sample = DetDataSample(metainfo=dict(
                video_id=video_id, frame_id=frame_id, img_path=f'/data/{folder}/{frame_id:05d}.jpg',
                ori_shape=(height, width)))
            sample.pred_track_instances = instances
            made.append((image, sample))
        return made

    return make
