"""Drawing of the results during testing (``test_video.py --show``). Added to the hooks by ``mmdet.apis.test``."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet.errors import counted
from mmdet.registry import HOOKS
from mmdet.video.frame_sink import FrameSink
from mmdet.visualization import SequenceVisualizer, TrackVisualizer
from mmdet.visualization.sequence import painter_processes


@HOOKS.register_module()
class ShowHook(Hook):
    """Passes every tested frame to a :class:`mmdet.visualization.SequenceVisualizer` in a separate process.

    Args:
        folder: output folder; for each video, a folder of PNG frames and a GIF are written to it.
        score_thr: score threshold; only objects with a higher score are drawn.
        draw_uncertainty: draw the uncertainty of boxes as ellipses at their corners, for detectors that estimate it.
    """

    def __init__(self, folder: str, score_thr: float, draw_uncertainty: bool = False) -> None:
        self.folder = folder
        self.score_thr = score_thr
        self.draw_uncertainty = draw_uncertainty

    def before_test_epoch(self, runner: Runner) -> None:
        names = runner.test_dataloader.dataset.metainfo['classes']
        visualizer = TrackVisualizer(names, self.score_thr, draw_uncertainty=self.draw_uncertainty)
        if any(Path(self.folder).glob('*/*.png')):
            runner.logger.warning(f'{self.folder} already contains PNG files; those that are not overwritten remain '
                                  'beside the new ones')
        self._sink = FrameSink(SequenceVisualizer(self.folder, visualizer=visualizer, painters=painter_processes()))

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        for clip in outputs:
            for frame in clip:
                self._sink.add(frame.get('ori_img'), frame)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        written, = self._sink.close()
        runner.logger.info(f'Pictures of {counted(len(written) // 2, "video")} are in {self.folder}')
