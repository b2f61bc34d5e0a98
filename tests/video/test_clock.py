"""Time stamps of sources become times that start at 0 and increase."""
import pytest

from mmdet.video.frames import Clock


@pytest.mark.parametrize(('stamps', 'times'), [
    ([0, 0.1, 0.2], [0, 0.1, 0.2]),
    ([5, 5.1, 5.3], [0, 0.1, 0.3]),
    ([None, None, None], [0, 0.1, 0.2]),
    ([0, None, 0.25], [0, 0.1, 0.25]),
    ([7, 7.1, 0, 0.1], [0, 0.1, 0.2, 0.3]),  # a restart
    ([0, 0.5, 0.3, 0.6], [0, 0.5, 0.501, 0.6]),  # a wrong order
    ([0, 0, 0.1], [0, 0.001, 0.1]),
], ids=['as they are', 'offset', 'none', 'one missing', 'restart', 'order', 'equal'])
def test_times(stamps, times):
    clock = Clock(0.1)
    assert [clock.tick(stamp) for stamp in stamps] == pytest.approx(times)
