"""Write a result file of a test in other formats. Called by ``test_video.py --formats`` and tools/export_result.py."""
from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from tqdm import tqdm

from mmdet.arguments import require_number
from mmdet.errors import UserError
from mmdet.evaluation.frame_results import BOX_VALUES, FrameResult
from mmdet.evaluation.functional import read_ground_truth
from mmdet.evaluation.functional.scored_tracks import GroundTruth
from mmdet.evaluation.result_files import load_tracks
from mmdet.files import check_writable
from mmdet.structures import DetDataSample
from mmdet.structures.vis_json import Track, Video
from mmdet.video.index_masks import IndexMaskWriter
from mmdet.video.result_writer import VideoResultWriter
from mmdet.video.track_text import MotsWriter, MotWriter
from mmdet.video.video_options import RESULT_FORMATS
from mmdet.visualization import video_name


def export_result(annotations: str | os.PathLike, results: str | os.PathLike, formats: Sequence[str],
                  folder_of: Callable[[str], Path], *, thresh: float = 0.5, fps: float | None = None,
                  mots_classes: Mapping[str, int] | None = None, common_videos: bool = False,
                  classes: Sequence[str] | None = None) -> list[Path]:
    """Write the tracks of a result file by video, as :class:`mmdet.apis.VideoInferencer` writes those of a video.

    Args:
        annotations: annotation file that the result belongs to; its annotations are not used.
        results: result file: JSON, zip, or ``X.pkl``, the only one with ids and with scores by frame. In the others,
            the tracks of a video are numbered in the order of the file, and every frame has the score of the track.
        formats: any of :data:`RESULT_FORMATS`: index masks ``<video>/<frame>.png``, text files ``<video>.txt`` of MOT
            and MOTS, and ``<video>.jsonl``. ``<video>`` is the name of the folder of its frames.
        folder_of: function that returns the output folder of a format.
        thresh: score in [0, 1]; only objects with a higher score are written.
        fps: frames per second, for the times of ``jsonl`` in seconds; None: no times.
        mots_classes: class in ``mots`` by category name; objects of other categories are left out. None: category ids.
        common_videos: leave out tracks of videos that are not in the annotation file.
        classes: ``metainfo.classes`` of the config of the test, if it had some of the file's categories only.

    Returns:
        The folders written.

    Raises:
        UserError: a format is unknown, the files do not belong together, or a file cannot be written.
    """
    folders = [folder_of(kind) for kind in formats]
    check_export(formats, folders, thresh, fps)
    truth = read_ground_truth(annotations, tracks=False, file_names=True)
    if classes is not None:
        truth = truth.of_classes(classes)
    unknown = sorted(set(mots_classes or ()) - set(truth.categories.values()))
    if unknown:
        raise UserError(f'--mots-classes {unknown[0]}: {annotations} has no such category')
    tracks, frames = load_tracks(os.fspath(results), truth, common_videos)
    names, found = _names(truth), 0
    for place, video in enumerate(tqdm(truth.videos.values(), unit=' videos')):
        samples = (_of_frames(video, frames[place], thresh) if frames is not None
                   else _of_tracks(video, [track for track in tracks if track.video_id == video.id], truth, thresh))
        with ExitStack() as closing:  # closes all, also after an error
            writers = [_writer(kind, folder, names[video.id], truth, fps, mots_classes)
                       for kind, folder in zip(formats, folders)]
            for writer in writers:
                closing.callback(writer.close)
            for sample in samples:
                found += len(sample.pred_track_instances)
                for writer in writers:
                    writer.add(None, sample)
    if not found:
        print_log(f'no object has a score above {thresh:g}, so the files hold none; try a lower --thresh', 'current',
                  logging.WARNING)
    return folders


def check_export(formats: Sequence[str], folders: Sequence[Path], thresh: float, fps: float | None = None) -> None:
    """Raise UserError for the first argument of :func:`export_result` that is not valid."""
    if unknown := sorted(set(formats) - set(RESULT_FORMATS)):
        raise UserError(f'unknown format {unknown[0]!r}: choose from {", ".join(RESULT_FORMATS)}')
    require_number('--thresh', thresh)
    if not 0 <= thresh <= 1:
        raise UserError(f'--thresh {thresh}: scores lie between 0 and 1')
    if fps is not None and not 0 < fps < float('inf'):
        raise UserError(f'--fps {fps}: must be a positive number')
    for folder in folders:
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f'{folder}: holds files already, perhaps of an earlier run, which would stay among the new '
                            'ones; remove them or choose another folder')
        check_writable(folder / 'results', f'{folder}')


def _names(truth: GroundTruth) -> dict[int, str]:
    """Return a name for the files of each video; videos of equal folders are distinguished by their id."""
    names: dict[int, str] = {}
    taken: set[str] = set()
    for video in truth.videos.values():
        name = video_name(video.file_names[0] if video.file_names else None, video.id)
        name = f'{name}_{video.id}' if name.casefold() in taken else name
        taken.add(name.casefold())
        names[video.id] = name
    return names


def _writer(kind: str, folder: Path, name: str, truth: GroundTruth, fps: float | None,
            mots_classes: Mapping[str, int] | None) -> Any:
    category_ids, class_names = tuple(truth.categories), tuple(truth.categories.values())
    if kind == 'masks':
        return IndexMaskWriter(folder / name, class_names)
    if kind == 'mot':
        return MotWriter(folder / f'{name}.txt')
    if kind == 'mots':
        return MotsWriter(folder / f'{name}.txt', category_ids, mots_classes, class_names)
    return VideoResultWriter(folder / name, category_ids, class_names, fps)


def _of_frames(video: Video, frames: Sequence[FrameResult], thresh: float) -> Iterator[DetDataSample]:
    """Yield the frames of a video of ``X.pkl``."""
    for frame_id, frame in enumerate(frames):
        scores = frame.rows[:, BOX_VALUES - 1]
        keep = np.flatnonzero(scores > thresh)
        yield _sample(video, frame_id, frame.rows[keep, :4], scores[keep], np.array(frame.labels, int)[keep],
                      np.array(frame.ids, int)[keep], [frame.counts[place] for place in keep])


def _of_tracks(video: Video, tracks: Sequence[Track], truth: GroundTruth, thresh: float) -> Iterator[DetDataSample]:
    """Yield the frames of the tracks of a video of a result list."""
    label_of = {category_id: label for label, category_id in enumerate(truth.categories)}
    kept = [(number, track, track.mask_boxes()) for number, track in enumerate(tracks) if track.score > thresh]
    for frame_id in range(video.length):
        shown = [(number, track, boxes[frame_id]) for number, track, boxes in kept if track.mask_areas[frame_id]]
        boxes = np.array([box for *_, box in shown], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2] - 1  # x, y, w, h → x1, y1, x2, y2, inclusive
        rles = [track.rles[frame_id] for _, track, _ in shown]
        yield _sample(video, frame_id, boxes, np.array([track.score for _, track, _ in shown], np.float32),
                      np.array([label_of[track.category_id] for _, track, _ in shown], int),
                      np.array([number for number, *_ in shown], int), [rle['counts'] for rle in rles if rle])


def _sample(video: Video, frame_id: int, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, ids: np.ndarray,
            counts: Sequence[str]) -> DetDataSample:
    sample = DetDataSample(metainfo=dict(
        video_id=video.id, frame_id=frame_id, source_frame=frame_id, img_path=video.file_names[frame_id],
        ori_shape=(video.height, video.width)))
    sample.pred_track_instances = InstanceData(
        bboxes=boxes, scores=scores, labels=labels, instances_id=ids,
        masks=[dict(size=[video.height, video.width], counts=text) for text in counts])
    return sample
