"""Count the unreadable frames of a test with ``on_bad_frame='skip'``; used by both metrics."""
from __future__ import annotations

from collections.abc import Iterable

from mmengine.logging import print_log

from mmdet.errors import UserError, counted
from mmdet.structures import DetDataSample


class BadFrameCount:
    """Number of frames tested by this process, and of the unreadable ones among them."""

    def __init__(self) -> None:
        self.seen = self.bad = 0

    def add(self, sample: DetDataSample) -> None:
        self.seen += 1
        self.bad += bool(sample.get('bad_frame', False))

    @staticmethod
    def check(counts: Iterable[BadFrameCount], source: str) -> None:
        """Log how many frames of all processes were unreadable; they count as frames without objects.

        Args:
            counts: one per process.
            source: name of the annotation file, for messages.

        Raises:
            UserError: none of the frames could be read.
        """
        counts = list(counts)
        seen, bad = sum(count.seen for count in counts), sum(count.bad for count in counts)
        if bad and bad == seen:
            raise UserError(f'no frame of {source} could be read ({counted(seen, "frame")}), so there is nothing to '
                            'score; the warnings above say why: check data_prefix and the images')
        if bad:
            print_log(f'{bad} of {counted(seen, "frame")} could not be read; such a frame counts as one without '
                      'objects', logger='current')
