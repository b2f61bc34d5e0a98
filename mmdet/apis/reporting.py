"""The report of a test: scores, curves and a gallery on one HTML page.

Called by ``test_video.py --report`` and tools/analysis_tools/report.py.
"""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from mmengine.config import Config
from mmengine.logging import print_log

from mmdet.apis.config import chosen_classes
from mmdet.apis.report_errors import error_section
from mmdet.arguments import checked_count, checked_number
from mmdet.datasets.layout import find_images
from mmdet.datasets.transforms.frame_loading import BadFrameError, read_frame
from mmdet.errors import UserError, counted
from mmdet.evaluation.functional import VISEvalResult, read_ground_truth, without_classes
from mmdet.evaluation.functional.scored_tracks import GroundTruth
from mmdet.evaluation.functional.video_ap import IOU_THRESHOLDS, RECALL_POINTS
from mmdet.evaluation.functional.video_iou import video_mask_iou
from mmdet.evaluation.functional.vis_eval import score_tracks
from mmdet.evaluation.result_files import load_tracks
from mmdet.evaluation.tables import RANGE_TEXT
from mmdet.files import atomic_open, check_writable, load_json
from mmdet.structures.vis_json import Track, Video
from mmdet.visualization import TrackVisualizer
from mmdet.visualization.report import Bar, Card, Curve, Page, Score, line_chart, render_page
from mmdet.visualization.training_log import read_scalars
from mmdet.visualization.webp import animated_webp

HEADLINE = ('AP', 'AP50', 'AP75', 'AR1', 'AR10')
RANGES = ('APs', 'APm', 'APl', 'APso', 'APmo', 'APho')
SHOWN_IOU = (0.5, 0.6, 0.7, 0.8, 0.9)
PICTURE_FRAMES, PICTURE_FPS = 32, 8
HALF_WIDTH, GAP = 320, 4  # width of each half of a picture and of the gap between them, in pixels
SAME_OBJECT = 0.1  # minimum video IoU for a prediction to get the annotation's colour
BACKDROP = 60  # grey level of frames without an image


def write_report(annotations: str | os.PathLike, results: str | os.PathLike, out: str | os.PathLike, *,
                 images: str | os.PathLike | None = None, log: str | os.PathLike | None = None,
                 title: str = 'Test report', thresh: float = 0.5, gallery: int = 24,
                 common_videos: bool = False, class_agnostic: bool = False,
                 classes: Sequence[str] | None = None) -> Path:
    """Score a result file and write ``<out>/index.html``, which is self-contained.

    Args:
        annotations: YouTube-VIS or OVIS annotation file with ground truth.
        results: result file: JSON, the zip for a server, or ``X.pkl``, the only one that contains box uncertainties.
        out: output folder, created if it does not exist.
        images: folder to which the annotation file's ``file_names`` are relative; None: draw the masks on grey.
        log: training log (``scalars.json``), or a folder whose newest log is used; None: no training curves.
        title: title of the page.
        thresh: score threshold in [0, 1]; only tracks with a higher score are drawn.
        gallery: maximum number of videos in the gallery, which shows the best and the worst.
        class_agnostic: score all categories as one.
        common_videos: leave out the tracks of videos that are not annotated; otherwise they are an error.
        classes: ``metainfo.classes`` of the config of the test, if it had some of the file's categories only.

    Returns:
        The path of the page.

    Raises:
        UserError: a file is missing or damaged, or the results are not for these annotations.
    """
    checked_number('--thresh', thresh, 0, 1)
    checked_count('--gallery', gallery, 0)
    if images is not None and not Path(images).is_dir():
        raise UserError(f'{images}: no such image folder; give the one that the file_names of {annotations} start from')
    check_writable(Path(out).expanduser() / 'index.html', f'--out {out}')
    training = _training_charts(find_log(log)) if log is not None else []
    truth = _ground_truth(annotations) if classes is None else _ground_truth(annotations).of_classes(classes)
    tracks, frames = load_tracks(os.fspath(results), truth, common_videos)
    if class_agnostic:
        truth, tracks = without_classes(truth, tracks)
    result = score_tracks(truth, tracks)
    cards, note = _gallery(truth, tracks, load_json(annotations), Path(images) if images is not None else None, thresh,
                           gallery)
    page = Page(
        title=title,
        summary=f'{Path(results).name} against {Path(annotations).name}: {counted(len(truth.videos), "video")}, '
                f'{len(truth.tracks)} annotated and {counted(len(tracks), "predicted track")}, '
                f'{counted(len(truth.categories), "category")}. All scores are in percent.',
        headline=_scores(result, HEADLINE),
        tables=[_scores(result, [name for name in result.statistics if name.startswith(kind)])
                for kind in ('AP', 'AR')],
        categories=_category_bars(result, truth),
        ranges=[Bar(RANGE_TEXT[name], result.statistics[name], name) for name in RANGES if name in result.statistics],
        ranges_note='' if truth.has_occlusion else 'The annotations have no occlusion levels.',
        precision_recall=_precision_recall(result), errors=error_section(truth, tracks, frames), training=training,
        cards=cards, gallery_note=note)
    path = Path(out).expanduser() / 'index.html'
    with atomic_open(str(path)) as file:
        file.write(render_page(page).encode())
    return path


def check_report(cfg: Config) -> None:
    """Raise UserError unless the results of a test can be reported. To be called before the test."""
    if cfg.test_evaluator.type != 'YouTubeVISMetric':
        raise UserError(f'--report: {cfg.filename} is scored by {cfg.test_evaluator.type}; reports are of videos')
    _ground_truth(cfg.test_evaluator.ann_file)


def report_test(cfg: Config, result: str, out: str, checkpoint: str | None, thresh: float,
                class_agnostic: bool = False) -> None:
    """Write the report of a test on the config's test set, see :func:`write_report`.

    Args:
        cfg: config of the test.
        result: path of ``X.pkl``.
        out: folder of the page.
        checkpoint: path of the tested weights; the training curves are read from a log beside it, if there is one.
        thresh, class_agnostic: see :func:`write_report`.
    """
    dataset = cfg.test_dataloader.dataset
    try:
        images = find_images(dataset.get('data_root', ''), dataset.get('data_prefix', {}).get('img_path', ''))
    except UserError:  # results can be evaluated without images
        images = None
    try:
        log = find_log(Path(checkpoint).expanduser().parent) if checkpoint else None
    except UserError:
        log = None
    name = Path(cfg.filename).stem if cfg.filename else 'model'
    path = write_report(cfg.test_evaluator.ann_file, result, out, images=images, log=log, thresh=thresh,
                        class_agnostic=class_agnostic, classes=chosen_classes(cfg),
                        title=f'{name}, {Path(checkpoint).name}' if checkpoint else name)
    print_log(f'Report: {path}', logger='current')


def find_log(path: str | os.PathLike) -> Path:
    """Return the path of a training log: ``path`` itself, or the newest ``scalars.json`` below it if it is a folder.

    Raises:
        UserError: the folder contains no log.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        return path
    logs = sorted(path.glob('**/vis_data/scalars.json'), key=lambda log: log.stat().st_mtime)
    if not logs:
        raise UserError(f'{path}: holds no training log <time>/vis_data/scalars.json; give a training\'s --work_dir')
    return logs[-1]


def _ground_truth(annotations: str | os.PathLike) -> GroundTruth:
    truth = read_ground_truth(annotations)
    if all(track.crowd for track in truth.tracks):
        raise UserError(f'{annotations}: has no annotations but crowds, so nothing can be reported; give a file with '
                        'ground truth')
    return truth


def _scores(result: VISEvalResult, names: Sequence[str]) -> list[Score]:
    return [Score(name, RANGE_TEXT[name], result.statistics[name]) for name in names]


def _category_bars(result: VISEvalResult, truth: GroundTruth) -> list[Bar]:
    """Return a bar for each category with annotations, the best category first."""
    counts = Counter(track.category_id for track in truth.tracks)
    rows = sorted((-result.per_category[key], name, counts[key]) for key, name in result.category_names.items()
                  if counts[key])
    return [Bar(name, -value, f'{count} track' + 's' * (count > 1)) for value, name, count in rows]


def _precision_recall(result: VISEvalResult) -> Markup:
    """Draw precision against recall, averaged over the categories, at several IoU thresholds."""
    precision = result.precision[:, :, :, 0, -1]
    defined = precision[0, 0] > -1  # a category is defined at all points or at none
    curves = [Curve(f'IoU {threshold:.2f}', 100 * np.stack([RECALL_POINTS, values[:, defined].mean(axis=1)], axis=1))
              for threshold, values in zip(IOU_THRESHOLDS, precision) if np.isclose(threshold, SHOWN_IOU).any()]
    return line_chart(curves, 'recall (%)', 'precision (%)', ylim=(0, 100))


def _training_charts(log: Path) -> list[tuple[str, Any]]:
    scalars = read_scalars(log)
    groups: dict[str, list[str]] = {'Losses': [], 'Learning rate': [], 'Validation': []}
    for name in sorted(scalars, key=lambda name: (name != 'loss', name)):
        group = 'Losses' if 'loss' in name else 'Learning rate' if name.endswith('lr') else 'Validation'
        if np.isfinite(scalars[name]).all(axis=1).any():
            groups[group].append(name)
    # of the many statistics of the validation, only those at the top of the page, if they are defined
    groups['Validation'] = [name for name in groups['Validation']
                            if name.split('_')[-1] in HEADLINE and (scalars[name][:, 1] >= 0).any()]
    if 'lr' in groups['Learning rate']:
        groups['Learning rate'] = ['lr']
    charts = []
    for title, names in groups.items():
        if not names:
            continue
        curves = [Curve(name, np.where(np.isfinite(scalars[name]), scalars[name], np.nan)) for name in names]
        if title == 'Validation':
            charts.append((title, _validation_chart(curves)))
        else:
            log_axis = title == 'Losses' and all(np.nanmin(curve.points[:, 1]) > 0 for curve in curves)
            charts.append((title, line_chart(curves, 'step', '', log=log_axis)))
    return charts


def _validation_chart(curves: Sequence[Curve]) -> Markup:
    """Draw scores in percent against epochs; -1, an undefined score, is left out."""
    for curve in curves:
        curve.points[:, 1] = np.where(curve.points[:, 1] < 0, np.nan, 100 * curve.points[:, 1])
    top = max([1., *(value for curve in curves for value in curve.points[:, 1] if np.isfinite(value))])
    return line_chart(curves, 'epoch', 'score (%)', ylim=(0, top))


def _gallery(truth: GroundTruth, tracks: list[Track], content: dict, images: Path | None, thresh: float,
             limit: int) -> tuple[list[Card], str]:
    """Return the cards, the best video first, and a note on the choice of videos."""
    files = {entry['id']: [str(name) for name in entry.get('file_names') or ()] for entry in content['videos']}
    annotated, predicted = _by_video(truth.tracks), _by_video(tracks)
    scores = {key: score_tracks(GroundTruth(truth.source, {key: truth.videos[key]}, truth.categories, annotated[key]),
                                predicted.get(key, [])).statistics['AP'] for key in annotated}
    ranking = sorted((key for key in scores if scores[key] >= 0 and truth.videos[key].length),
                     key=lambda key: -scores[key])
    note = ''
    if len(ranking) > limit:
        note = f'Of {len(ranking)} videos these are the {(limit + 1) // 2} best and the {limit // 2} worst.'
        ranking = ranking[:(limit + 1) // 2] + ranking[len(ranking) - limit // 2:]
    painter = _Painter(truth, thresh)
    cards, absent = [], 0
    for key in ranking:
        video, shown = truth.videos[key], [track for track in predicted.get(key, []) if track.score > thresh]
        picture, (width, height), missing = painter.picture(video, annotated[key], shown, files[key], images)
        absent += missing
        name = Path(files[key][0]).parent.name if files[key] else ''
        text = (f'{counted(video.length, "frame")}, {len(annotated[key])} annotated, {len(shown)} predicted above '
                f'{100 * thresh:g} %')
        cards.append(Card(name or f'video {key}', scores[key], text, picture, width, height))
    if absent and images is not None:
        note += f' Missing or damaged: {counted(absent, "image")}.'
    return cards, note.strip()


def _by_video(tracks: Sequence[Track]) -> dict[int, list[Track]]:
    groups: dict[int, list[Track]] = {}
    for track in tracks:
        groups.setdefault(track.video_id, []).append(track)
    return groups


class _Painter:
    """Draws the animated pictures: annotations on the left, predictions on the right."""

    def __init__(self, truth: GroundTruth, thresh: float) -> None:
        self.labels = {key: label for label, key in enumerate(truth.categories)}
        self.visualizer = TrackVisualizer(list(truth.categories.values()), thresh, draw_boxes=False, percent=True)

    def picture(self, video: Video, annotated: list[Track], predicted: list[Track], files: list[str],
                images: Path | None) -> tuple[bytes, tuple[int, int], int]:
        """Return an animated WebP, its (width, height), and the number of images that could not be read."""
        scale = HALF_WIDTH / video.width
        size = (HALF_WIDTH, max(1, round(video.height * scale)))
        ids = _shared_ids(annotated, predicted)
        missing, pictures = 0, []
        for frame in range(0, video.length, -(-video.length // PICTURE_FRAMES)):
            image = _read(images / files[frame], video) if images is not None and files else None
            missing += image is None
            image = np.full((*size[::-1], 3), BACKDROP, np.uint8) if image is None else cv2.resize(
                image, size, interpolation=cv2.INTER_AREA)
            objects = (self._objects(annotated, frame, range(len(annotated)), scored=False),
                       self._objects(predicted, frame, ids, scored=True))
            halves = [self.visualizer.draw(image, instances, scale) for instances in objects]
            pictures.append(np.concatenate([halves[0], np.full((size[1], GAP, 3), 255, np.uint8), halves[1]], axis=1))
        return animated_webp(pictures, PICTURE_FPS), (2 * HALF_WIDTH + GAP, size[1]), missing

    def _objects(self, tracks: list[Track], frame: int, ids: Sequence[int], scored: bool) -> SimpleNamespace:
        seen = [(track, number) for track, number in zip(tracks, ids) if track.mask_areas[frame]]
        return SimpleNamespace(
            masks=[track.rles[frame] for track, _ in seen], instances_id=np.array([number for _, number in seen], int),
            labels=np.array([self.labels[track.category_id] for track, _ in seen], int),
            scores=np.array([track.score for track, _ in seen], float) if scored else None)


def _shared_ids(annotated: list[Track], predicted: list[Track]) -> list[int]:
    """Return an id for each prediction: that of its annotation in a greedy matching by video IoU, else a new one."""
    ids = list(range(len(annotated), len(annotated) + len(predicted)))
    if not annotated or not predicted:
        return ids
    overlap = video_mask_iou([track.rles for track in predicted], [track.rles for track in annotated],
                             np.stack([track.mask_areas for track in predicted]),
                             np.stack([track.mask_areas for track in annotated]))
    for _ in range(min(overlap.shape)):
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        if overlap[row, column] < SAME_OBJECT:
            break
        ids[row] = int(column)
        overlap[row], overlap[:, column] = 0, 0
    return ids


def _read(path: Path, video: Video) -> np.ndarray | None:
    try:
        return read_frame(str(path), video.height, video.width)
    except BadFrameError:
        return None
