"""Check the options of a video before large packages are imported or models are loaded.

Called by tools/video_demo.py and, for Python, by :class:`mmdet.apis.VideoInferencer` and :func:`open_video`.
"""
from __future__ import annotations

from collections.abc import Sequence

from mmdet.arguments import require_number
from mmdet.errors import UserError

OUTPUTS = ('mp4', 'gif', 'png', 'json', 'masks', 'mot', 'mots')
RESULT_FORMATS = ('masks', 'mot', 'mots', 'jsonl')  # of the results of a test, see mmdet.apis.export_result
MOST_FPS = 10000.0  # a higher rate is a mistake or, in an input video, a damaged header
LEAST_SIZE = 16  # pixels


def check_video_options(*, start: int = 0, end: int | None = None, stride: int = 1, thresh: float = 0.5,
                        fps: float | None = None, trails: int = 0, outputs: Sequence[str] = (), batch: int = 1,
                        max_size: int | None = None, on_bad_frame: str = 'error', reconnect: int = 0) -> None:
    """Raise UserError for the first option that is not valid, see :class:`mmdet.apis.VideoInferencer`."""
    whole = {'start': start, 'end': end, 'stride': stride, 'trails': trails, 'batch': batch, 'max-size': max_size,
             'reconnect': reconnect}
    for name, number in {**whole, 'thresh': thresh, 'fps': fps}.items():
        if number is not None:
            require_number(f'--{name}', number, whole=name in whole)
    if isinstance(outputs, str):
        raise UserError(f'outputs={outputs!r}: give a list, such as [{outputs!r}]')
    if start < 0:
        raise UserError(f'--start {start}: frames are counted from 0; give 0 or more')
    if end is not None and end <= start:
        raise UserError(f'--end {end}: must be larger than --start {start}, or no frame is left')
    if stride < 1:
        raise UserError(f'--stride {stride}: every Nth frame is taken; give 1 (all of them) or more')
    if reconnect < 0:
        raise UserError(f'--reconnect {reconnect}: must not be negative; 0 ends the video when the stream ends')
    if on_bad_frame not in ('error', 'skip'):
        raise UserError(f"--on-bad-frame {on_bad_frame}: give 'error' or 'skip'")
    if not 0 <= thresh <= 1:
        raise UserError(f'--thresh {thresh}: scores lie between 0 and 1')
    if fps is not None and not 0 < fps <= MOST_FPS:
        raise UserError(f'--fps {fps}: must lie above 0 and be at most {MOST_FPS:g}')
    if trails < 0:
        raise UserError(f'--trails {trails}: must not be negative')
    if unknown := set(outputs) - set(OUTPUTS):
        raise UserError(f'unknown output {min(unknown)!r}: choose from {", ".join(OUTPUTS)}')
    if batch < 1:
        raise UserError(f'--batch {batch}: must be at least 1')
    if max_size is not None and max_size < LEAST_SIZE:
        raise UserError(f'--max-size {max_size}: must be at least {LEAST_SIZE} pixels')
