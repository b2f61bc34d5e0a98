"""Visualizer of the runner, which writes settings and curves. Built by the runner from ``visualizer`` of the config."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from mmengine.visualization import Visualizer

from mmdet.registry import VISUALIZERS


@VISUALIZERS.register_module(name='Visualizer')
class LogVisualizer(Visualizer):
    """mmengine's Visualizer, which creates its figure for the first image instead of at the start.

    Runs without images thus do not import matplotlib, which takes half a second.
    """

    fig_save_canvas: Any

    def _initialize_fig(self, fig_cfg: dict) -> tuple[Any, Any, Any]:
        return None, SimpleNamespace(get_dpi=lambda: None), None

    def set_image(self, image: np.ndarray) -> None:
        """Set the image to draw on."""
        if self.fig_save_canvas is None:
            self.fig_save_canvas, self.fig_save, self.ax_save = super()._initialize_fig(self.fig_save_cfg)
            self.dpi = self.fig_save.get_dpi()
        super().set_image(image)
