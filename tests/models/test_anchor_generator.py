"""Anchors: sizes, centres, order."""
import torch

from mmdet.models.task_modules.anchor_generator import AnchorGenerator


def test_legacy_cell_of_the_published_network():
    anchors, = AnchorGenerator([4], legacy=True)([torch.zeros(1, 1, 2, 3)])
    # width 45.25, height 22.63 around 1.5, 1.5, and so on
    assert anchors[:3].tolist() == [[-21, -9, 24, 12], [-14, -14, 17, 17], [-9, -21, 12, 24]]


def test_order_is_row_column_ratio():
    anchors, = AnchorGenerator([4])([torch.zeros(1, 1, 2, 3)])
    assert anchors.shape == (2 * 3 * 3, 4)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centres[::3].tolist() == [[0, 0], [4, 0], [8, 0], [0, 4], [4, 4], [8, 4]]
    sizes = anchors[:3, 2:] - anchors[:3, :2]
    assert sizes.tolist() == [[46, 22], [32, 32], [22, 46]]


def test_levels_have_their_own_size():
    first, second = AnchorGenerator([4, 8], ratios=[1.0])([torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 2)])
    assert first.tolist() == [[-16, -16, 16, 16]]
    assert second.tolist() == [[-32, -32, 32, 32], [-24, -32, 40, 32]]
