"""Toy videos with ground truth in YouTube-VIS or OVIS format; called by tools/make_toy_vis.py and by tests.

A video shows a few textured shapes on a textured background, both of one family (:mod:`.toy_families`). The shapes
move, rotate, change their size, occlude each other, leave the frame and return. Masks contain the visible pixels only.
Every video has its own random generator, so that the files depend on the seed but not on the number of worker
processes.
"""
from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.utils import track_parallel_progress, track_progress
from pycocotools import mask as mask_utils

from mmdet.datasets.toy.toy_families import FAMILIES
from mmdet.errors import UserError

# an object with fewer visible pixels counts as absent
MIN_VISIBLE_PIXELS = 12
# easy sets: one colour (BGR) for each class
EASY_COLORS = np.array([(40, 40, 220), (60, 190, 60), (220, 110, 30), (40, 200, 220), (200, 60, 190),
                        (200, 200, 60), (120, 60, 30), (40, 120, 220), (160, 80, 220), (90, 160, 20)], dtype=float)


@dataclass(frozen=True)
class ToyVIS:
    """Parameters of a toy data set.

    Args:
        videos: number of training videos.
        val_videos: number of validation videos.
        frames: number of frames per video.
        size: width and height in pixels.
        classes: number of shape classes, 1–10: the first ones of the family.
        seed: seed; the annotations of two sets with equal parameters are identical.
        format: 'yvis', or 'ovis' (with ``occlusion`` strings and the file names of OVIS).
        easy: one solid colour per class, smooth background, 1–3 objects, little occlusion.
        first_category_id: the category ids of the file are first_category_id, first_category_id + 1, ...
        family: shapes, textures and backgrounds: 'geometric' or 'organic', see :data:`.toy_families.FAMILIES`.
    """

    videos: int = 20
    val_videos: int = 5
    frames: int = 20
    size: tuple[int, int] = (320, 192)
    classes: int = 6
    seed: int = 0
    format: str = 'yvis'
    easy: bool = False
    first_category_id: int = 1
    family: str = 'geometric'

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UserError(f'family must be one of {", ".join(FAMILIES)}, not {self.family!r}')
        shapes = FAMILIES[self.family].shapes
        if not 1 <= self.classes <= len(shapes):
            raise UserError(f'classes must lie in 1..{len(shapes)}, not {self.classes}')
        if self.format not in ('yvis', 'ovis'):
            raise UserError(f"format must be 'yvis' or 'ovis', not {self.format!r}")
        if min(self.videos, self.val_videos) < 0 or self.frames < 1 or min(self.size) < 16 or self.seed < 0:
            raise UserError('videos, val_videos and seed must not be negative, frames at least 1, '
                            f'the size at least 16x16: {self}')


@dataclass(frozen=True)
class _Actor:
    """One object and its motion through a video."""

    label: int
    texture: str
    colors: np.ndarray
    noise: np.ndarray
    start: np.ndarray
    velocity: np.ndarray
    radius: float
    swell: tuple[float, float, float]
    angle: tuple[float, float]
    margin: float

    def pose(self, time: int, size: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Return centre (x, y), radius and angle; the centre bounces off the frame extended by ``margin`` radii."""
        low, high = -self.margin * self.radius, size + self.margin * self.radius
        span = high - low
        phase = np.mod(self.start + self.velocity * time - low, 2 * span)
        centre = low + np.minimum(phase, 2 * span - phase)
        amount, speed, offset = self.swell
        return centre, self.radius * (1 + amount * np.sin(speed * time + offset)), self.angle[0] + self.angle[1] * time


def _make_actors(spec: ToyVIS, rng: np.random.Generator) -> list[_Actor]:
    size = np.array(spec.size, dtype=float)
    textures = FAMILIES[spec.family].textures
    actors = []
    count = rng.integers(1, 4) if spec.easy else rng.integers(2, 7)
    for index in range(count):
        label = int(rng.integers(spec.classes))
        radius = size.min() * rng.uniform(.12, .2) if spec.easy else size.min() * rng.uniform(.08, .24)
        speed = size.min() * (rng.uniform(.005, .02) if spec.easy else rng.uniform(.01, .05))
        heading = rng.uniform(0, 2 * np.pi)
        colors = EASY_COLORS[[label, label]] + rng.uniform(-15, 15, 3) if spec.easy else rng.uniform(0, 255, (2, 3))
        # easy: side by side at the start
        left, right = (index / count, (index + 1) / count) if spec.easy else (0, 1)
        actors.append(_Actor(
            label=label,
            # easy: the two colours are equal, whatever the texture
            texture=textures[0 if spec.easy else rng.integers(len(textures))],
            colors=np.clip(colors, 0, 255),
            noise=rng.random((8, 8)),
            start=size * rng.uniform((.75 * left + .25 * right, .25), (.25 * left + .75 * right, .75)),
            velocity=speed * np.array([np.cos(heading), np.sin(heading)]),
            radius=radius,
            swell=(rng.uniform(0, .15 if spec.easy else .35), rng.uniform(.05, .25), rng.uniform(0, 6.28)),
            angle=(rng.uniform(0, 6.28), rng.uniform(-.05, .05) if spec.easy else rng.uniform(-.15, .15)),
            # the first object always stays in view, so no video is empty
            margin=-1. if index == 0 or spec.easy else 1.5))
    return actors


def _render(spec: ToyVIS, actors: list[_Actor], background: np.ndarray, time: int, drift: np.ndarray,
            ) -> tuple[np.ndarray, list[np.ndarray], list[float]]:
    """Render a frame: image (H, W, 3) uint8 and, for each actor, its visible mask (H, W) and occluded share."""
    width, height = spec.size
    family = FAMILIES[spec.family]
    shapes = list(family.shapes.values())
    down, right = np.rint(drift * time).tolist()
    image = np.roll(background, (int(down), int(right)), axis=(0, 1))
    owner = np.full((height, width), -1, dtype=np.int16)
    totals = []
    for index, actor in enumerate(actors):
        centre, radius, angle = actor.pose(time, np.array(spec.size, dtype=float))
        # the part of the frame that the unit circle of the object touches
        window = tuple(slice(max(int(middle - radius) - 1, 0), max(int(middle + radius) + 2, 0))
                       for middle in centre[::-1])
        columns, rows = np.arange(width)[window[1]], np.arange(height)[window[0], None]
        x, y = (columns - centre[0]) / radius, (rows - centre[1]) / radius
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        inside = shapes[actor.label](u, v)
        image[window][inside] = family.paint(actor.texture, u[inside], v[inside], actor.colors, actor.noise)
        owner[window][inside] = index
        totals.append(inside.sum())
    masks = [owner == index for index in range(len(actors))]
    hidden = [1 - mask.sum() / max(total, 1) for mask, total in zip(masks, totals)]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), masks, hidden


def _occlusion_word(hidden: float) -> str:
    return 'no_occlusion' if hidden < .02 else 'slight_occlusion' if hidden < .5 else 'severe_occlusion'


def _make_video(task: tuple[int, int, str], spec: ToyVIS, out: str) -> tuple[dict, list[dict]]:
    """Write the frames of one video; return its entries for ``videos`` and ``annotations``, without ids."""
    split, index, folder = task
    rng = np.random.default_rng([spec.seed, split, index])
    actors = _make_actors(spec, rng)
    background = FAMILIES[spec.family].background(spec.size, spec.easy, rng)
    drift = np.zeros(2) if spec.easy else rng.uniform(-2, 2, 2)
    width, height = spec.size
    name = f'toy{split}_{index:05d}'
    video_dir = Path(out, folder, name)
    video_dir.mkdir(parents=True, exist_ok=True)
    video = {'width': width, 'height': height, 'length': spec.frames,
             'file_names': [f'{name}/{time:05d}.jpg' for time in range(spec.frames)]}
    tracks: list[dict[str, Any]] = [
        {'category_id': spec.first_category_id + actor.label, 'iscrowd': 0, 'width': width, 'height': height,
         'length': spec.frames, 'segmentations': [], 'bboxes': [], 'areas': [], 'occlusion': []} for actor in actors]
    for time in range(spec.frames):
        image, masks, hidden = _render(spec, actors, background, time, drift)
        if not cv2.imwrite(str(video_dir / f'{time:05d}.jpg'), image):
            raise UserError(f'cannot write {video_dir / f"{time:05d}.jpg"}: check the disk space and the permissions')
        for track, mask, share in zip(tracks, masks, hidden):
            seen = mask.sum() >= MIN_VISIBLE_PIXELS
            rle = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8))) if seen else None
            track['segmentations'].append(rle and {'size': [height, width], 'counts': rle['counts'].decode('ascii')})
            track['bboxes'].append(rle and mask_utils.toBbox(rle).tolist())
            track['areas'].append(rle and int(mask_utils.area(rle)))
            track['occlusion'].append(rle and _occlusion_word(share))
    if spec.format == 'yvis':
        for track in tracks:
            del track['occlusion']
    return video, [track for track in tracks if any(track['segmentations'])]


def _annotation_file(spec: ToyVIS, made: list[tuple[dict, list[dict]]]) -> dict:
    videos: list[dict] = []
    annotations: list[dict] = []
    for video, tracks in made:
        videos.append(dict(id=len(videos) + 1, **video))
        for track in tracks:
            annotations.append(dict(id=len(annotations) + 1, video_id=len(videos), **track))
    categories = [{'id': spec.first_category_id + i, 'name': name, 'supercategory': 'shape'}
                  for i, name in enumerate(list(FAMILIES[spec.family].shapes)[:spec.classes])]
    return {'info': {'description': 'toy video instance segmentation', 'seed': spec.seed}, 'categories': categories,
                'videos': videos, 'annotations': annotations}


def _start_worker() -> None:
    cv2.setNumThreads(0)


def make_toy_vis(out: str | os.PathLike, spec: ToyVIS, workers: int = 1, progress: bool = True) -> dict[str, Path]:
    """Write a toy data set.

    Layout: ``out/{train_images,valid_images}/<video>/<frame, 5 digits>.jpg`` and
    ``out/annotations/instances_{train,valid}.json`` (OVIS: ``annotations_{train,valid}.json``).

    Args:
        out: folder, created if missing; existing files are replaced.
        spec: parameters of the data set.
        workers: number of processes; the result does not depend on it.
        progress: show a progress bar.

    Returns:
        The annotation files by split: ``{'train': path, 'valid': path}``.

    Raises:
        UserError: ``out`` is a file or cannot be written.
    """
    out = Path(out)
    try:
        (out / 'annotations').mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'cannot make the folder {out}: {error.strerror}; choose another one') from None
    counts = {'train': spec.videos, 'valid': spec.val_videos}
    tasks = [(split, index, f'{name}_images')
             for split, name in enumerate(counts) for index in range(counts[name])]
    make = partial(_make_video, spec=spec, out=str(out))
    with open(os.devnull, 'w') as silence:
        shown = {} if progress else {'file': silence}
        if workers > 1 and len(tasks) > 1:
            made = track_parallel_progress(make, tasks, workers, initializer=_start_worker, **shown)
        else:
            made = track_progress(make, tasks, **shown)
    paths = {}
    stem = 'instances' if spec.format == 'yvis' else 'annotations'
    for split, name in enumerate(counts):
        paths[name] = out / 'annotations' / f'{stem}_{name}.json'
        part = _annotation_file(spec, [result for task, result in zip(tasks, made) if task[0] == split])
        (out / f'{name}_images').mkdir(exist_ok=True)
        paths[name].write_text(json.dumps(part, separators=(',', ':')))
    return paths
