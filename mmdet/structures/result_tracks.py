"""Conversion of the objects of a video's frames to the entries of a YouTube-VIS result list.

Both the metric, which has the frames of a video in memory, and the writer of a stream, which has the masks on disk,
collect one :class:`ResultTrack` for each track.
"""
from __future__ import annotations

from array import array
from collections import Counter

import numpy as np


class ResultTrack:
    """A track, collected frame by frame; 16 bytes for each frame.

    Attributes:
        frames: frame ids of the track, ascending.
        scores: score of the track in each of these frames.
    """

    def __init__(self) -> None:
        self.frames, self.scores = array('q'), array('d')
        self._labels: Counter[int] = Counter()

    def add(self, frame: int, label: int, score: float) -> None:
        """Add the object of the track in a frame.

        Args:
            frame: 0-based frame id, larger than those added before.
            label: 0-based label.
            score: score in [0, 1].
        """
        self.frames.append(frame)
        self.scores.append(score)
        self._labels[label] += 1

    @property
    def label(self) -> int:
        """The most frequent label, the lowest on ties."""
        return min(self._labels, key=lambda label: (-self._labels[label], label))

    def head(self, video_id: int, category_id: int) -> dict:
        """Return the fields of the entry that are not lists over frames; the score is the mean over the frames."""
        return dict(video_id=video_id, category_id=category_id, score=float(np.mean(np.frombuffer(self.scores))))


def xywh_boxes(corners: np.ndarray) -> np.ndarray:
    """Convert boxes x1, y1, x2, y2 (n, ≥ 4), of which further columns are dropped, to x, y, w, h (n, 4) float64.

    x2 and y2 are inclusive, as in the annotations: w = x2 - x1 + 1.
    """
    corners = np.asarray(corners, np.float64)
    return np.concatenate([corners[:, :2], corners[:, 2:4] - corners[:, :2] + 1], axis=1)
