"""Draw a clip as the network receives it: its frames side by side, with their annotations.

Called by tools/analysis_tools/browse_dataset.py.
"""
from __future__ import annotations

import numpy as np
from torch import Tensor

from mmdet.structures import TrackDataSample
from mmdet.visualization.track_visualizer import TrackVisualizer

GAP = 4  # pixels between two frames


def picture_of_clip(inputs: Tensor, clip: TrackDataSample, visualizer: TrackVisualizer) -> np.ndarray:
    """Draw an item of a data set.

    Args:
        inputs: (T, 3, H, W) uint8 BGR, as ``PackTrackInputs`` returns it.
        clip: samples of the T frames, whose ``gt_instances`` are drawn.
        visualizer: visualizer that draws the objects.

    Returns:
        (H, T·W + (T − 1)·GAP, 3) uint8 BGR, white between the frames.
    """
    visualizer.reset()
    frames: list[np.ndarray] = []
    for image, frame in zip(inputs.permute(0, 2, 3, 1).numpy(), clip):
        if frames:
            frames.append(np.full((image.shape[0], GAP, 3), 255, np.uint8))
        shown = image.copy()
        if 'gt_instances' in frame:
            height, width = frame.img_shape
            shown[:height, :width] = visualizer.draw(shown[:height, :width].copy(), frame.gt_instances)
        frames.append(shown)
    return np.concatenate(frames, axis=1)
