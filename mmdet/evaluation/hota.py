"""HOTA of video instance segmentation, by TrackEval (Luiten et al., "HOTA: A Higher Order Metric for Evaluating
Multi-object Tracking", IJCV 2021). An optional extra: ``pip install trackeval``.

Called by ``tools/vis_eval.py --hota``. The official code computes the scores; this module writes its input files from
the checked tracks that are also used for AP, and reads its output.
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
from mmdet.structures.vis_json import Track

NAMES = ('HOTA', 'DetA', 'AssA', 'DetRe', 'DetPr', 'AssRe', 'AssPr', 'LocA')


def check_installed() -> None:
    """Raise UserError, which names the missing package, unless TrackEval can be imported."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints which of its data sets lack a package
            import trackeval.datasets  # noqa: F401
    except ImportError as error:
        raise missing_package(error, '--hota', 'trackeval==1.3.0') from error


def evaluate_hota(truth: GroundTruth, predictions: Sequence[Track], score_thr: float = 0.0) -> dict[str, float]:
    """Score tracks that :func:`read_predictions` checked.

    Args:
        truth: the annotations.
        predictions: tracks with masks.
        score_thr: only tracks with a score above it are scored; unlike AP, HOTA penalises every false track.

    Returns:
        HOTA, DetA, AssA, DetRe, DetPr, AssRe, AssPr and LocA in [0, 1]: means over the localisation thresholds
        .05:.05:.95, over all objects of all categories.

    Raises:
        UserError: TrackEval or a package that it needs is not installed, or there are no annotations.
    """
    check_installed()
    from trackeval import Evaluator, metrics
    from trackeval.datasets import YouTubeVIS
    if not truth.tracks:
        raise UserError(f'{truth.source}: has no annotations, so nothing can be scored; give a file with ground truth')

    class CompressedYouTubeVIS(YouTubeVIS):
        """TrackEval's reader, for masks that are compressed already."""

        def _prepare_gt_annotations(self) -> None:
            """Do nothing: the masks need no conversion."""

    kept = [track for track in predictions if track.score > score_thr]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        _write(Path(folder, 'gt', 'youtube_vis_all', 'gt.json'), _ground_truth(truth))
        _write(Path(folder, 'found', 'youtube_vis_all', 'model', 'data', 'result.json'),
               [_entry(track) for track in kept])
        dataset = CompressedYouTubeVIS(dict(
            GT_FOLDER=f'{folder}/gt/', TRACKERS_FOLDER=f'{folder}/found/', SPLIT_TO_EVAL='all', PRINT_CONFIG=False))
        evaluator = Evaluator(dict(
            LOG_ON_ERROR=None, PRINT_RESULTS=False, PRINT_CONFIG=False, TIME_PROGRESS=False, OUTPUT_SUMMARY=False,
            OUTPUT_DETAILED=False, PLOT_CURVES=False))
        results, _ = evaluator.evaluate([dataset], [metrics.HOTA(dict(PRINT_CONFIG=False))])
    combined = results[dataset.get_name()]['model']['COMBINED_SEQ']['cls_comb_det_av']['HOTA']
    return {name: float(np.mean(combined[name])) for name in NAMES}


def _ground_truth(truth: GroundTruth) -> dict:
    """Return the annotations for TrackEval, which identifies videos by their folder and categories by their name."""
    return dict(
        categories=[dict(id=key, name=str(key)) for key in truth.categories],
        videos=[dict(id=video.id, file_names=[f'{video.id}/0'] * video.length) for video in truth.videos.values()
                if video.length],
        annotations=[_entry(track) | dict(id=number, area=track.area, iscrowd=int(track.crowd))
                     for number, track in enumerate(truth.tracks)])


def _entry(track: Track) -> dict:
    return dict(video_id=track.video_id, category_id=track.category_id, score=track.score,
                segmentations=[_text(rle) for rle in track.rles])


def _text(rle: dict | None) -> dict | None:
    if rle is None:
        return None
    counts = rle['counts']
    return dict(size=list(rle['size']), counts=counts.decode() if isinstance(counts, bytes) else counts)


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
