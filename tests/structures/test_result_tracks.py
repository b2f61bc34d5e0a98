"""Class and score of a track over its frames, and boxes in the format of result files."""
import numpy as np
import pytest

from mmdet.structures.result_tracks import ResultTrack, xywh_boxes


@pytest.mark.parametrize(('labels', 'expected', 'why'), [
    ([3], 3, 'one frame'), ([0, 3, 3], 3, 'the most frequent'), ([5, 2, 5, 2], 2, 'the lowest on ties')])
def test_label_of_a_track(labels, expected, why):
    track = ResultTrack()
    for frame, label in enumerate(labels):
        track.add(2 * frame, label, (frame + 1) / 4)
    assert track.label == expected and list(track.frames) == list(range(0, 2 * len(labels), 2))
    assert track.head(7, 40) == dict(video_id=7, category_id=40, score=sum(range(1, len(labels) + 1)) / 4 / len(labels))


def test_last_pixels_are_inclusive():
    assert xywh_boxes(np.array([[1, 2, 4.25, 6, .9]], np.float32)).tolist() == [[1, 2, 4.25, 5]]
    assert xywh_boxes(np.zeros((0, 4), np.float32)).shape == (0, 4)
