"""HOTA, MOTA and IDF1 by TrackEval (Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-object Tracking",
IJCV 2021; Bernardin and Stiefelhagen 2008; Ristani et al. 2016). An optional extra: ``pip install trackeval==1.3.0``,
the maintained distribution of the official code.

Called by ``tools/vis_eval.py --hota``. TrackEval computes the scores; this module writes its input files from the
checked tracks that are also used for AP, and reads its output.
"""
from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmdet.errors import UserError, missing_package
from mmdet.evaluation.functional.scored_tracks import GroundTruth
from mmdet.structures.masks import rle_text
from mmdet.structures.vis_json import Track

# scores by the name of TrackEval's metric
SCORES = {'HOTA': ('HOTA', 'DetA', 'AssA', 'DetRe', 'DetPr', 'AssRe', 'AssPr', 'LocA'), 'CLEAR': ('MOTA', 'MOTP'),
          'Identity': ('IDF1', 'IDR', 'IDP')}
NAMES = tuple(name for names in SCORES.values() for name in names)


def check_installed() -> None:
    """Raise UserError, which names the missing package, unless TrackEval can be imported."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints which of its data sets lack a package
            import trackeval.datasets  # noqa: F401
    except ImportError as error:
        raise missing_package(error, '--hota', 'trackeval==1.3.0') from error


def evaluate_hota(truth: GroundTruth, predictions: Sequence[Track], score_thr: float = 0.0,
                  metric: str = 'segm') -> dict[str, float]:
    """Score tracks that :func:`read_predictions` checked.

    Args:
        truth: the annotations.
        predictions: tracks with masks or, for ``'bbox'``, boxes.
        score_thr: only tracks with a score above it are scored; unlike AP, these scores penalise every false track.
        metric: what is compared: ``'segm'`` masks, ``'bbox'`` boxes.

    Returns:
        The scores by name, over all objects of all categories: HOTA, DetA, AssA, DetRe, DetPr, AssRe, AssPr and LocA,
        means over the localisation thresholds .05:.05:.95; MOTA, MOTP, IDF1, IDR and IDP at the threshold .5. All are
        in [0, 1], except MOTA, which is negative if there are more errors than annotated objects.

    Raises:
        UserError: TrackEval or a package that it needs is not installed, or there are no annotations.
    """
    check_installed()
    from trackeval import Evaluator, metrics
    from trackeval.datasets import YouTubeVIS
    if not truth.tracks:
        raise UserError(f'{truth.source}: has no annotations, so nothing can be scored; give a file with ground truth')

    class CheckedYouTubeVIS(YouTubeVIS):
        """TrackEval's reader, for compressed masks or boxes of tracks whose areas are known."""

        def _prepare_gt_annotations(self) -> None:
            """Do nothing: the annotations need no conversion."""

        def _get_tracker_seq_tracks(self, tracker: str, seq_id: int) -> list[dict]:
            return [track for track in self.tracker_data[tracker] if track['video_id'] == seq_id]

        def _calculate_similarities(self, gt_dets_t: list, tracker_dets_t: list) -> np.ndarray:
            if metric == 'segm':
                return super()._calculate_similarities(gt_dets_t, tracker_dets_t)
            annotated, found = (np.array(boxes).reshape(-1, 4) for boxes in (gt_dets_t, tracker_dets_t))
            return self._calculate_box_ious(annotated, found, box_format='xywh')

    kept = [track for track in predictions if track.score > score_thr]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        _write(Path(folder, 'gt', 'youtube_vis_all', 'gt.json'), _ground_truth(truth, metric))
        _write(Path(folder, 'found', 'youtube_vis_all', 'model', 'data', 'result.json'),
               [_entry(track, number, metric) for number, track in enumerate(kept)])
        dataset = CheckedYouTubeVIS(dict(
            GT_FOLDER=f'{folder}/gt/', TRACKERS_FOLDER=f'{folder}/found/', SPLIT_TO_EVAL='all', PRINT_CONFIG=False))
        evaluator = Evaluator(dict(
            LOG_ON_ERROR=None, PRINT_RESULTS=False, PRINT_CONFIG=False, TIME_PROGRESS=False, OUTPUT_SUMMARY=False,
            OUTPUT_DETAILED=False, PLOT_CURVES=False))
        results, _ = evaluator.evaluate([dataset], [getattr(metrics, kind)(dict(PRINT_CONFIG=False))
                                                    for kind in SCORES])
    combined = results[dataset.get_name()]['model']['COMBINED_SEQ']['cls_comb_det_av']
    return {name: float(np.mean(combined[kind][name])) for kind, names in SCORES.items() for name in names}


def _ground_truth(truth: GroundTruth, metric: str) -> dict:
    """Return the annotations for TrackEval, which identifies videos by their folder and categories by their name."""
    return dict(
        categories=[dict(id=key, name=str(key)) for key in truth.categories],
        videos=[dict(id=video.id, file_names=[f'{video.id}/0'] * video.length) for video in truth.videos.values()
                if video.length],
        annotations=[_entry(track, number, metric) for number, track in enumerate(truth.tracks)])


def _entry(track: Track, number: int, metric: str) -> dict:
    """Return a track for TrackEval, whose ``segmentations`` are masks or boxes x, y, w, h."""
    shown = [rle and rle_text(rle) for rle in track.rles] if metric == 'segm' or track.boxes is None else [
        box.tolist() if box.any() else None for box in track.boxes]
    return dict(id=number, video_id=track.video_id, category_id=track.category_id, score=track.score,
                area=track.area, iscrowd=int(track.crowd), segmentations=shown)


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
