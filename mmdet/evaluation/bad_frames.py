"""Counts the unreadable frames of a test that goes on without them (``on_bad_frame='skip'``); both metrics hold one."""
from __future__ import annotations

from collections.abc import Iterable

from mmengine.logging import print_log

from mmdet.errors import UserError
from mmdet.structures import DetDataSample


class BadFrameCount:
    """Frames seen by this process, and how many of them were unreadable."""

    def __init__(self) -> None:
        self.seen = self.bad = 0

    def add(self, sample: DetDataSample) -> None:
        self.seen += 1
        self.bad += bool(sample.get('bad_frame', False))

    @staticmethod
    def check(counts: Iterable[BadFrameCount], source: str) -> None:
        """Say how many frames of all processes were unreadable; they count as frames without objects.

        Raises:
            UserError: all of them.
        """
        counts = list(counts)
        seen, bad = sum(count.seen for count in counts), sum(count.bad for count in counts)
        if bad and bad == seen:
            raise UserError(f'none of the {seen} frames of {source} could be read, so there is nothing to score; the '
                            'warnings above say why: check data_prefix and the images')
        if bad:
            print_log(f'{bad} of {seen} frames could not be read; they count as frames without objects',
                      logger='current')
