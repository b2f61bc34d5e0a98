"""Measurements for long videos and large test sets, with synthetic data: association, testing, evaluation.

Called by tools/analysis_tools/benchmark_load.py.
"""
from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

from mmdet.datasets import YVISDataset
from mmdet.evaluation.functional import evaluate_vis, load_result_json
from mmdet.evaluation.metrics import YouTubeVISMetric
from mmdet.models.trackers import AssociationTracker

SIZE = (48, 64)  # (h, w) of the test set's images


def leaving_and_returning(frames: int, objects: int, at_once: int, channels: int = 256,
                          seed: int = 0) -> Iterator[tuple[np.ndarray, InstanceData]]:
    """Yield for each frame the numbers of the visible objects and their detections.

    Every object moves over 1280 × 720 pixels, has its own appearance embedding (with noise) and is visible for a part
    of its period of 60 to 300 frames, so that about ``at_once`` objects are visible in a frame. Each object has its own
    class, because the published matching score assigns a new object to an old track of its class even if their
    embeddings are hardly similar.
    """
    rng = np.random.default_rng(seed)
    appearance = rng.standard_normal((objects, channels), np.float32)
    labels = torch.arange(objects)
    position, speed = rng.uniform(0, 1000, (objects, 2)), rng.uniform(-3, 3, (objects, 2))
    period, phase = rng.integers(60, 300, objects), rng.integers(0, 300, objects)
    for frame in range(frames):
        shown = np.flatnonzero((frame + phase) % period < period * at_once / objects)
        corner = (position[shown] + frame * speed[shown]) % (1280, 720)
        embeddings = appearance[shown] + 0.3 * rng.standard_normal((len(shown), channels), np.float32)
        yield shown, InstanceData(
            bboxes=torch.from_numpy(np.concatenate([corner, corner + 60], axis=1)).float(), labels=labels[shown],
            scores=torch.linspace(0.9, 0.3, len(shown)), embeddings=torch.from_numpy(embeddings))


def measure_tracker(frames: int, objects: int, at_once: int, max_tracks: int) -> dict[str, float]:
    """Measure association alone, on one thread: time of a frame, number of tracks, percentage of correct ids."""
    torch.set_num_threads(1)
    tracker = AssociationTracker(max_tracks=max_tracks)
    state = tracker.new_state()
    times, first_id, right, total, most = [], {}, 0, 0, 0
    for shown, detections in leaving_and_returning(frames, objects, at_once):
        embeddings = detections.embeddings
        start = time.perf_counter()
        tracked = tracker.track(detections, state)
        times.append(time.perf_counter() - start)
        most = max(most, len(state.ids))
        total += len(shown)
        # detections that were kept are identified by their embeddings, which are all different
        number = dict(zip(embeddings[:, 0].tolist(), shown.tolist()))
        for first, track in zip(tracked.embeddings[:, 0].tolist(), tracked.instances_id.tolist()):
            right += first_id.setdefault(number[first], track) == track
    milliseconds = 1e3 * np.array(times)
    return {'ms a frame, mean': milliseconds.mean(), 'ms a frame, 99 %': np.percentile(milliseconds, 99),
            'detections a frame': total / frames, 'most tracks': most, 'right ids (%)': 100 * right / total}


def write_test_set(root: Path, videos: int, length: int) -> Path:
    """Write annotations of many videos that share the same small images; return their path."""
    height, width = SIZE
    (root / 'valid_images').mkdir()
    names = [f'{frame}.png' for frame in range(length)]
    for frame, name in enumerate(names):
        cv2.imwrite(str(root / 'valid_images' / name), np.full((height, width, 3), frame % 256, np.uint8))
    mask = np.zeros(SIZE, np.uint8, order='F')
    mask[10:30, 20:40] = 1
    rle = mask_utils.encode(mask)
    track = [{'size': rle['size'], 'counts': rle['counts'].decode()}] * length
    path = root / 'valid.json'
    path.write_text(json.dumps({
        'categories': [{'id': 1, 'name': 'thing'}],
        'videos': [{'id': ident, 'height': height, 'width': width, 'length': length, 'file_names': names}
                   for ident in range(1, videos + 1)],
        'annotations': [{'id': ident, 'video_id': ident, 'category_id': 1, 'iscrowd': 0, 'segmentations': track,
                         'areas': [400] * length} for ident in range(1, videos + 1)]}))
    return path


def measure_test_set(frames: int, length: int = 100, out: str | None = None) -> dict[str, float]:
    """Measure a pass over a test set and the metric with result files; the predictions are the annotations."""
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        ann_file = write_test_set(Path(folder), frames // length, length)
        pipeline = [{'type': 'LoadTrackFrames'}, {'type': 'PackTrackInputs'}]
        dataset = YVISDataset(str(ann_file), folder, {'img_path': 'valid_images'}, pipeline, test_mode=True, clip_len=8)
        metric = YouTubeVISMetric(str(ann_file), 'segm', out=out or str(Path(folder) / 'x.pkl'))
        metric.dataset_meta = dataset.metainfo
        truth = json.loads(ann_file.read_text())['annotations'][0]['segmentations'][0]
        found = InstanceData(bboxes=torch.tensor([[20., 10, 39, 29]]), scores=torch.tensor([0.9]),
                             labels=torch.tensor([0]), instances_id=torch.tensor([0]), masks=[truth])
        memory, start = [], time.perf_counter()
        for item in range(len(dataset)):
            clip = dataset[item]['data_samples']
            for frame in clip:
                frame.pred_track_instances = found
            metric.process(None, [clip.to_dict()])
            if item % max(len(dataset) // 20, 1) == 0:
                memory.append(process.memory_info().rss)
        passed = time.perf_counter() - start
        statistics = metric.evaluate(len(dataset))
        growth = max(memory[len(memory) // 4:]) - memory[len(memory) // 4]
        return {'frames': frames, 'frames a second': frames / passed, 'AP (%)': 100 * statistics['segm_AP'],
                'MiB after a quarter': memory[len(memory) // 4] / 2 ** 20, 'MiB more at the end': growth / 2 ** 20,
                'MiB at most, with scoring': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 10,
                'seconds of scoring and writing': time.perf_counter() - start - passed}


def scoring_contents(videos: int = 140, length: int = 60, tracks: int = 20, categories: int = 25, in_video: int = 5,
                     radius: float = 120, size: tuple[int, int] = (360, 640), seed: int = 0) -> tuple[dict, list[dict]]:
    """Make annotations and results of the size of OVIS.

    Each video has tracks of ``in_video`` categories. Masks are ellipses with semi-axes of up to ``radius`` pixels. The
    masks of a track have similar sizes, and a predicted track has the mask of its annotation in three of four frames.
    """
    rng, masks = np.random.default_rng(seed), []
    y, x = np.ogrid[:size[0], :size[1]]
    for _ in range(200):
        (cy, cx), (h, w) = rng.uniform(0, size), rng.uniform(10, radius, 2)
        rle = mask_utils.encode(np.asfortranarray(((y - cy) / h) ** 2 + ((x - cx) / w) ** 2 < 1).astype(np.uint8))
        masks.append({'size': rle['size'], 'counts': rle['counts'].decode()})
    masks.sort(key=mask_utils.area)
    annotated = rng.integers(0, len(masks) - 20, (videos, tracks, 1)) + rng.integers(0, 20, (videos, tracks, length))
    predicted = np.where(rng.random(annotated.shape) < 0.75, annotated, rng.permuted(annotated, axis=2))

    def made(chosen: np.ndarray, **fields: Any) -> list[dict]:
        return [{'video_id': video + 1, 'category_id': 1 + (video + track % in_video) % categories,
                 'segmentations': [masks[i] for i in chosen[video, track]],
                 **{name: make(video * tracks + track + 1) for name, make in fields.items()}}
                for video in range(videos) for track in range(tracks)]

    truth = {'videos': [{'id': video, 'height': size[0], 'width': size[1], 'length': length}
                        for video in range(1, videos + 1)],
             'categories': [{'id': number, 'name': str(number)} for number in range(1, categories + 1)],
             'annotations': made(annotated, id=int, iscrowd=lambda _: 0, areas=lambda _: [4000.] * length)}
    return truth, made(predicted, score=lambda _: float(rng.uniform()))


def measure_scoring(videos: int = 140, length: int = 60, tracks: int = 20, in_video: int = 5) -> dict[str, float]:
    """Measure the evaluation of :func:`scoring_contents`: seconds for reading the files and for the evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, 'truth.json'), Path(folder, 'result.json')
        for path, content in zip(paths, scoring_contents(videos, length, tracks, in_video=in_video)):
            path.write_text(json.dumps(content))
        start = time.perf_counter()
        contents = [load_result_json(path) for path in paths]
        read = time.perf_counter()
        scores = evaluate_vis(*contents)
        return {'tracks': videos * tracks, 'seconds of reading': read - start,
                'seconds of checks and scoring': time.perf_counter() - read, 'AP (%)': 100 * scores.statistics['AP']}
