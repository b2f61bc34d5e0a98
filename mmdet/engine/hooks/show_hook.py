"""Pictures of the results while testing (``test_video.py --show``). Added to the hooks by ``mmdet.apis.test``."""
from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet.registry import HOOKS
from mmdet.visualization import SequenceVisualizer


@HOOKS.register_module()
class ShowHook(Hook):
    """Hands every frame with its objects to a :class:`mmdet.visualization.SequenceVisualizer`.

    Args:
        folder: gets one folder of PNG frames and one GIF per video.
        score_thr: objects above this score are drawn.
    """

    def __init__(self, folder: str, score_thr: float) -> None:
        self.folder = folder
        self.score_thr = score_thr

    def before_test_epoch(self, runner: Runner) -> None:
        names = runner.test_dataloader.dataset.metainfo['classes']
        self.pictures = SequenceVisualizer(self.folder, class_names=names, score_thr=self.score_thr)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        pass
