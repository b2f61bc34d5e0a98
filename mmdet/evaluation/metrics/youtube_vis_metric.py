"""Metric that collects tracked frames, writes result files and scores them; called by mmengine's loops.

Each process writes its frames to a part file (:mod:`mmdet.evaluation.parts`). At the end, the first process reads all
part files in the order of the annotation file, so that the result does not depend on the number of processes.
"""
from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list, get_rank, get_world_size, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmdet.arguments import checked_number
from mmdet.errors import UserError, counted
from mmdet.evaluation.bad_frames import BadFrameCount
from mmdet.evaluation.frame_results import FrameResult, track_entries
from mmdet.evaluation.functional import read_ground_truth, read_predictions, score_tracks, without_classes
from mmdet.evaluation.functional.scored_tracks import GroundTruth
from mmdet.evaluation.functional.vis_eval import METRICS as METRIC_NAMES
from mmdet.evaluation.parts import PartReader, PartWriter
from mmdet.evaluation.result_files import check_result_name, load_results, write_results
from mmdet.evaluation.tables import format_scores
from mmdet.registry import METRICS
from mmdet.structures.vis_json import Video


@METRICS.register_module()
class YouTubeVISMetric(BaseMetric):
    """Video AP of YouTube-VIS and OVIS, and the result files.

    Each video must be tested by one process, its frames in order (``VideoSampler``).

    Args:
        ann_file: annotation file of the tested videos. If it has no annotations, nothing is scored.
        metric: ``'segm'``, ``'bbox'``, both in a list, or an empty list to write results without scoring them.
        out: ``X.pkl``; ``X.pkl.json`` is written beside it, and ``X.pkl.parts/`` during the test (with several
            machines, on a disk that they share). None: nothing is written.
        dump_bbox: write boxes to ``X.pkl.json``, too.
        zip: also write ``X.pkl.zip`` for an evaluation server.
        collect_device: unused, since results are exchanged in files.
        prefix: prefix of the names of the statistics, followed by a slash.
        collect_dir: folder for part files if ``out`` is None, needed only with several machines. None: a temporary
            folder.
        class_agnostic: score all categories as one, see :func:`mmdet.evaluation.functional.without_classes`.

        length_exponent: exponent of a track's length in its score, see
            :func:`mmdet.evaluation.frame_results.track_entries`. ``X.pkl`` has the scores of the frames in any case.

    Raises:
        UserError: the annotation file is damaged, a metric is unknown, or the exponent is negative.
    """

    default_prefix = ''

    def __init__(self, ann_file: str, metric: str | Sequence[str] = 'segm', out: str | None = None,
                 dump_bbox: bool = False, zip: bool = False, collect_device: str = 'cpu', prefix: str | None = None,
                 collect_dir: str | None = None, class_agnostic: bool = False, length_exponent: float = 0.0) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        self.metrics = [metric] if isinstance(metric, str) else list(metric)
        for name in self.metrics:
            if name not in METRIC_NAMES:
                raise UserError(f'metric {name!r} is none of {", ".join(METRIC_NAMES)}')
        if out is not None:
            check_result_name(out)
        self.ann_file, self.out, self.dump_bbox, self.zip = ann_file, out, dump_bbox, zip
        self.class_agnostic = class_agnostic
        self.length_exponent = checked_number('YouTubeVISMetric length_exponent', length_exponent, 0)
        self._all = self._outline = read_ground_truth(ann_file, tracks=False)
        self._truth: GroundTruth | None = None
        self._part: PartWriter | None = None
        self._bad_frames = BadFrameCount()
        self._temporary: tempfile.TemporaryDirectory | None = None

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        """Score the categories of the data set, which may be some of those of ``ann_file``.

        Raises:
            UserError: ``ann_file`` lacks one of them.
        """
        self._choose_classes((dataset_meta or {}).get('classes'))
        self._dataset_meta = dataset_meta

    def _choose_classes(self, classes: Sequence[str] | None) -> None:
        if classes is not None and tuple(classes) != tuple(self._outline.categories.values()):
            self._outline, self._truth = self._all.of_classes(classes), None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Add the frames of clips: dicts with ``video_data_samples``, a list of ``DetDataSample``."""
        if self._part is None:
            self._part = PartWriter(os.path.join(self._parts_folder(), f'rank_{get_rank()}.jsonl'))
        for clip in data_samples:
            for sample in clip['video_data_samples']:
                video = self._video_of(sample.metainfo)
                self._bad_frames.add(sample)
                if 'video_tracks' in sample:
                    tracks = sample.video_tracks
                    self._part.add_tracks(video.id, list(zip(tracks.instances_id.tolist(), tracks.labels.tolist(),
                                                             tracks.scores.tolist())))
                self._part.add(video.id, sample.frame_id, FrameResult.from_sample(sample))
        self._part.flush()

    def evaluate(self, size: int) -> dict:
        """Merge the part files, write and score the results; return the statistics in every process.

        Args:
            size: number of clips; unused.

        Returns:
            Values in [0, 1], -1 where undefined, by names such as ``segm_AP``, ``bbox_AP50``.

        Raises:
            UserError: the first process raised it; it is raised in every process.
        """
        path = self._part.path if self._part else None
        if self._part:
            self._part.close()
        gathered = all_gather_object((path, self._bad_frames))
        paths = [path for path, _ in gathered if path]
        self._bad_frames = BadFrameCount()
        outcome: list = [None]
        if is_main_process():
            try:
                BadFrameCount.check((count for _, count in gathered), self.ann_file)
                outcome = [self.compute_metrics(paths)]
                for folder in {os.path.dirname(path) for path in paths}:
                    shutil.rmtree(folder, ignore_errors=True)
            except UserError as error:
                outcome = [error]
        broadcast_object_list(outcome)
        if isinstance(outcome[0], UserError):
            raise outcome[0]
        self._part = self._temporary = None
        return {f'{self.prefix}/{name}' if self.prefix else name: value for name, value in outcome[0].items()}

    def compute_metrics(self, results: list[str]) -> dict:
        """Write and score the results.

        Args:
            results: part files of the processes, in the order of the ranks.
        """
        missing = [path for path in results if not os.path.isfile(path)]
        if missing:
            raise UserError(f'{missing[0]}: another machine wrote it where this one cannot read; set collect_dir '
                            '(or --out) to a shared folder')
        reader = PartReader(results)
        videos = list(self._outline.videos.values())
        absent = sum(not reader.has_run(video) for video in videos if video.length)
        if absent:
            print_log(f'not tested, counted as empty: {absent} of {counted(len(videos), "video")}', logger='current')
        return self._write_and_score(reader.frames, self.out)

    def score_file(self, path: str) -> dict:
        """Score an existing ``X.pkl`` (``--load_result``), and write ``out`` from it if that is another file.

        Raises:
            UserError: the file is not a result file, or belongs to other videos.
        """
        videos = list(self._outline.videos.values())
        frames = dict(zip(self._outline.videos, load_results(path, videos)))
        other = self.out is not None and os.path.abspath(self.out) != os.path.abspath(path)
        return self._write_and_score(lambda video: frames[video.id], self.out if other else None, path)

    def write_partial(self) -> list[str]:
        """Write the results of the finished videos to ``X.partial.pkl`` beside ``out`` after an interrupt, and log it.

        The first process reads the part files of all processes; it does not communicate with the others, which may have
        ended.

        Returns:
            The files written.
        """
        if self._part is None:
            return []
        self._part.flush()
        if not is_main_process() or self.out is None:
            return []
        folder = self._parts_folder()
        paths = [os.path.join(folder, f'rank_{rank}.jsonl') for rank in range(get_world_size())]
        reader = PartReader([path for path in paths if os.path.isfile(path)])
        videos = [video for video in self._outline.videos.values() if reader.has_run(video)]
        stem, ending = os.path.splitext(self.out)
        written = write_results(f'{stem}.partial{ending}', self._stream(videos, reader.frames), self.dump_bbox)
        print_log(f'Interrupted after {len(videos)} of {counted(len(self._outline.videos), "video")}; the results up '
                  f'to there are in {" and ".join(written)}', logger='current')
        return written

    def _write_and_score(self, frames_of: Callable[[Video], list[FrameResult]], out: str | None,
                         source: str | None = None) -> dict:
        truth = self._ground_truth() if self.metrics else None
        entries: list[dict] = []
        stream = self._stream(list(self._outline.videos.values()), frames_of, entries if truth else None)
        if out is not None:
            written = write_results(out, stream, self.dump_bbox, self.zip)
            print_log(f'Results written to {", ".join(written)}', logger='current')
        elif truth:
            for _ in stream:
                pass
        if truth is None:
            if self.metrics:
                print_log(f'{self.ann_file} has no annotations, so nothing is scored', logger='current')
            return {}
        statistics = {}
        for metric in self.metrics:
            tracks = read_predictions(entries, truth, metric, source)
            scored = without_classes(truth, tracks) if self.class_agnostic else (truth, tracks)
            result = score_tracks(*scored, metric)
            title = f'{metric}, class-agnostic' if self.class_agnostic else metric
            print_log(f'\n{format_scores(result, title)}', logger='current')
            statistics.update({f'{metric}_{name}': value for name, value in result.statistics.items()})
        return statistics

    def _stream(self, videos: list[Video], frames_of: Callable[[Video], list[FrameResult]],
                kept: list[dict] | None = None) -> Iterator[tuple[Video, list[FrameResult], list[dict]]]:
        """Yield video, frames and entries of one video after the other; add the entries to ``kept`` for scoring."""
        for video in videos:
            frames = frames_of(video)
            entries = track_entries(video, frames, tuple(self._outline.categories), self.length_exponent)
            if kept is not None:
                kept.extend(entries)
            yield video, frames, entries

    def _ground_truth(self) -> GroundTruth | None:
        """Return the annotations, which are read once; None if the file has none."""
        if self._truth is None:
            truth = read_ground_truth(self.ann_file, need_masks='segm' in self.metrics)
            chosen = tuple(self._outline.categories.values())
            self._truth = truth if self._outline is self._all else truth.of_classes(chosen)
        if self._truth.tracks and 'bbox' in self.metrics and not self._truth.has_boxes:
            raise UserError(f'{self.ann_file}: not all of its annotations have bboxes; leave metric bbox out')
        return self._truth if self._truth.tracks else None

    def _video_of(self, metainfo: dict) -> Video:
        video = self._outline.videos.get(metainfo['video_id'])
        if video is None or tuple(metainfo['ori_shape'][:2]) != (video.height, video.width):
            raise UserError(f'{metainfo.get("img_path", "frame")}: video {metainfo["video_id"]} of size '
                            f'{metainfo["ori_shape"]} is not in {self.ann_file}; give the metric the data set\'s own '
                            'ann_file, or repair the image')
        return video

    def _parts_folder(self) -> str:
        if self.out is not None:
            return f'{self.out}.parts'
        if self.collect_dir is not None:
            return os.path.join(self.collect_dir, 'vis_results.parts')
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix='vis_results_')
        return self._temporary.name
