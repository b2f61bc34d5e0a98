"""The state of a video stream between its frames, and the states of the videos of a data set.

The caller of a model holds the states, one per video; the model is stateless. Subclasses of :class:`StreamState`
are in the models: :class:`mmdet.models.trackers.TrackState`.
"""
from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from torch import Tensor

from mmdet.errors import UserError
from mmdet.structures.data_sample import DetDataSample, TrackDataSample


@dataclass(eq=False)
class StreamState:
    """Position in a video; subclasses add the state of the model.

    All fields need a default: the state before the first frame. A state holds plain data, so that ``copy.deepcopy``
    and ``pickle`` save it and a copy continues the video from there.

    Attributes:
        frame_id: id of the last frame, -1 before the first.
        video_id: id of the video, None if its frames have none.
        network: tensor that the network of a detector with a tracker carries from frame to frame, None before the first
            frame. It may already be that of a later frame than ``frame_id``, since frames are launched before the
            results of earlier ones are complete.
    """

    frame_id: int = -1
    video_id: Hashable = None
    network: Tensor | None = None

    def __getstate__(self) -> dict:
        """Return the fields for copies and pickles, with :attr:`network` on the CPU."""
        return {**vars(self), 'network': None if self.network is None else self.network.cpu()}

    def reset(self) -> None:
        """Return to the state before the first frame of a video."""
        vars(self).update(vars(type(self)()))

    def check(self, frame: DetDataSample) -> None:
        """Raise UserError if a frame cannot follow the last one: it is not later, or belongs to another video.

        Frame 0 always begins a video. A new state accepts any frame: a stream may begin in the middle of a video.
        """
        if frame.frame_id == 0 or self.frame_id < 0:
            return
        video_id = frame.get('video_id')
        if video_id != self.video_id:
            raise UserError(f'frame {frame.frame_id} of video {video_id} was given the stream state of video '
                            f'{self.video_id}; keep one state per video (model.new_stream())')
        if frame.frame_id <= self.frame_id:
            raise UserError(f'frame {frame.frame_id} of video {video_id} was given a stream state that is at frame '
                            f'{self.frame_id} already; give the frames in order, or reset() the state')

    def advance(self, frame: DetDataSample) -> None:
        """Set the position to a frame; frame 0 resets the state first, except :attr:`network`.

        Raises:
            UserError: see :meth:`check`.
        """
        self.check(frame)
        if frame.frame_id == 0:
            network = self.network  # the network has begun the video already
            self.reset()
            self.network = network
        self.frame_id, self.video_id = frame.frame_id, frame.get('video_id')


class VideoStreams:
    """The states of the videos of a data set, each from its first clip to its last.

    Clips of several videos may alternate; those of one video must come in order.

    Args:
        new_stream: method of the model that returns a new state.
    """

    def __init__(self, new_stream: Callable[[], StreamState | None]) -> None:
        self._new_stream = new_stream
        self._states: dict[Hashable, StreamState] = {}

    def __len__(self) -> int:
        """Return the number of videos that have begun and not ended."""
        return len(self._states)

    def of(self, clips: Sequence[TrackDataSample]) -> list[StreamState | None]:
        """Return the state of the video of each clip; to be called once per batch.

        The state of a video is created for the clip with its frame 0, and removed here after the clip with its last
        frame (``video_length``). The state is None if frame 0 was not seen, which raises an error in models that track.
        """
        states = [self._state(clip) for clip in clips]
        for clip in clips:
            if (last := _own_frames(clip)[-1]).frame_id + 1 == last.get('video_length'):
                self._states.pop(last.video_id, None)
        return states

    def _state(self, clip: TrackDataSample) -> StreamState | None:
        first = _own_frames(clip)[0]
        if first.frame_id == 0 and (state := self._new_stream()) is not None:
            self._states[first.video_id] = state
        return self._states.get(first.video_id)


def _own_frames(clip: TrackDataSample) -> list[DetDataSample]:
    """Return the frames of a clip without context frames."""
    return [frame for frame in clip if not frame.get('is_context', False)]
