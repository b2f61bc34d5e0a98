"""Inference on any video as a stream. Called by tools/video_demo.py, :mod:`mmdet.apis.server` and notebooks."""
from __future__ import annotations

import difflib
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from mmdet.apis.inference import init_exported, init_model
from mmdet.apis.training import amp_dtype
from mmdet.checkpoint.reading import is_exported
from mmdet.concurrency import in_background
from mmdet.engine.test_steps import run_test_steps
from mmdet.errors import UserError, counted
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample, StreamState, TrackDataSample
from mmdet.structures.instances import add_metainfo, select_instances
from mmdet.structures.masks import rle_text
from mmdet.video.arrays import bgr_image
from mmdet.video.conversions import frame_detections, frame_json, frame_masks
from mmdet.video.frame_sink import FrameSink
from mmdet.video.index_masks import IndexMaskWriter
from mmdet.video.live import RECONNECT
from mmdet.video.result_writer import VideoResultWriter
from mmdet.video.source import VideoFrame, VideoSource, open_video
from mmdet.video.track_text import MotsWriter, MotWriter
from mmdet.video.video_list import check_outputs
from mmdet.video.video_options import check_video_options
from mmdet.visualization import SequenceVisualizer, TrackVisualizer
from mmdet.visualization.sequence import OUTPUTS as PICTURES
from mmdet.visualization.sequence import painter_processes

if TYPE_CHECKING:
    from supervision import Detections

CLIPS_AHEAD = 3  # number of clips decoded and resized ahead of the network
CLOSING = 0.5  # seconds that closing waits for a source that is blocked
_READERS = ('LoadTrackFrames', 'LoadTrackAnnotations')  # steps of a data set's pipeline that do not apply to videos


class VideoInferencer:
    """Finds and tracks the objects of videos. Each call processes one video:

        inferencer = VideoInferencer('configs/memcnp_toy.py', 'checkpoint.pth')
        for clip in inferencer('cat.mp4', out='pictures'):
            for frame in clip:
                print(frame.frame_id, frame.pred_track_instances.instances_id)

    Decoding runs ahead in a thread; drawing and writing follow in a separate process. Each is at most a few frames
    ahead of or behind the network, so that memory does not grow with the length of the video.

    Several videos may be processed at the same time: by interleaved iterators, by threads, or by inferencers that share
    a model. Each video gets the same ids as alone, because its stream state belongs to its iterator. The network
    processes one thread at a time. :meth:`track` is for frames that arrive one by one.

    Args:
        config: config file, result of :func:`mmdet.apis.load_config`, or model from :func:`mmdet.apis.init_model`.
        checkpoint: trained weights, or a file of tools/export.py, unless a model is given; None: random weights.
        device: device of the model; None: the GPU if there is one. A model that is given is neither moved nor
            converted, because others may use it.
        batch: number of frames in a batch of the network; more are faster on a GPU and increase the latency.
        max_size: maximum length in pixels of the longer side of the network's input; limits the config's test scale.
        amp: use mixed precision.
        overlap: launch a clip on the GPU before the results of the clip before are completed on the host. This is
            faster, and results come one clip later; those of live sources are never delayed. None: on a GPU, unless
            ``batch`` is 1.

    Raises:
        UserError: config or checkpoint do not fit, or the model does not track; see :func:`mmdet.apis.init_model`.
    """

    def __init__(self, config: str | os.PathLike | Config | nn.Module, checkpoint: str | os.PathLike | None = None, *,
                 device: str | torch.device | None = None, batch: int = 1, max_size: int | None = None,
                 amp: bool = False, overlap: bool | None = None) -> None:
        check_video_options(batch=batch, max_size=max_size)
        if amp and is_exported(checkpoint):
            raise UserError(f'--amp: {checkpoint} computes in the precision in which it was exported; leave --amp out')
        # Any: init_model's attributes are not nn.Module's
        self.model = cast(Any, config if isinstance(config, nn.Module)
                          else init_exported(config, checkpoint, device) if checkpoint and is_exported(checkpoint)
                          else init_model(config, checkpoint, device))
        self.batch = batch
        self._on_gpu = next(self.model.parameters()).device.type == 'cuda'
        self._overlap = overlap if overlap is not None else self._on_gpu and batch > 1
        dataset = self.model.cfg.test_dataloader.dataset
        known = {**(dataset.get('metainfo') or {}), **self.model.dataset_meta}
        self.class_names: tuple[str, ...] | None = tuple(known['classes']) if known.get('classes') else None
        self.category_ids: tuple[int, ...] | None = tuple(known['cat_ids']) if known.get('cat_ids') else None
        self._context = dataset.get('context', 0)
        self._pipeline = _pipeline(dataset.pipeline, max_size)
        if max_size is not None and hasattr(self.model, 'limit_input_size') and not isinstance(config, nn.Module):
            self.model.limit_input_size(max_size)  # it resizes by itself
        self._amp = getattr(torch, amp_dtype()) if amp else None
        if self._amp is None and any(parameter.dtype in (torch.bfloat16, torch.float16)
                                     for parameter in self.model.parameters()):
            raise UserError('the model has weights of half precision: an earlier VideoInferencer(..., amp=True) '
                            'converted them; give amp=True here, too, or another model')
        if self._amp is not None and hasattr(self.model, 'halve_weights') and not isinstance(config, nn.Module):
            self.model.halve_weights(self._amp)
        if self.model.new_stream() is None:
            raise UserError(f'{type(self.model).__name__} finds objects in single images and does not track them; '
                            'choose the config of a video model')

    def __call__(self, video: str | os.PathLike | int | Iterable[np.ndarray] | VideoSource, *,
                 out: str | os.PathLike | None = None, outputs: Sequence[str] = ('mp4', 'json'), start: int = 0,
                 end: int | None = None, stride: int = 1, thresh: float = 0.5, classes: Sequence[str | int] = (),
                 fps: float | None = None, trails: int = 0, uncertainty: bool = False,
                 on_bad_frame: str = 'error', every_frame: bool = False,
                 reconnect: int = RECONNECT) -> Iterator[TrackDataSample]:
        """Process a video. The network runs when results are requested; closing the iterator ends the video early.

        Args:
            video: anything that :func:`mmdet.video.source.open_video` accepts, or its result.
            out: folder for ``<video>.mp4``, ``<video>.gif``, ``<video>/00000.png``, ..., ``<video>.json`` and
                ``<video>.jsonl`` (:class:`mmdet.video.result_writer.VideoResultWriter`), ``masks/<video>/00000.png``
                (:class:`mmdet.video.index_masks.IndexMaskWriter`), ``mot/<video>.txt`` and ``mots/<video>.txt``
                (:mod:`mmdet.video.track_text`); None: nothing is written.
            outputs: which of ``'mp4'``, ``'gif'``, ``'png'``, ``'json'``, ``'masks'``, ``'mot'`` and ``'mots'``.
            start, end, stride: which frames, see :func:`mmdet.video.source.open_video`.
            thresh: score in [0, 1]; only objects with a higher score are returned, drawn and written.
            classes: names, or labels counted from 0, of the classes to return; empty: all.
            fps: frames per second of MP4 and GIF, and for the times of JSON lines if the source has none; None: each
                frame is shown at its time in the video.
            trails: number of past frames that the objects' trails show.
            uncertainty: draw the uncertainty of boxes as ellipses at their corners, for detectors that estimate it.
            on_bad_frame: 'error', or 'skip': leave out image files that cannot be read, and warn once.
            every_frame, reconnect: of cameras and network streams, see :func:`mmdet.video.source.open_video`.

        Returns:
            Iterator of clips of up to ``batch`` frames, in order; each frame with ``pred_track_instances``, ``ori_img``
            and the metainfo ``source_frame``, ``time`` and, of live sources, ``dropped``. Files are complete when it
            ends, is closed or fails.

        Raises:
            UserError: immediately for wrong arguments; from the iterator for errors during processing.
        """
        check_video_options(start=start, end=end, stride=stride, thresh=thresh, fps=fps, trails=trails, outputs=outputs)
        labels = self._labels(classes)
        source = (video if isinstance(video, VideoSource)
                  else open_video(video, start, end, stride, on_bad_frame, every_frame, reconnect))
        folder = None if out is None else Path(out).expanduser()
        if folder is not None:
            check_outputs([source.name], [source.path], folder, outputs)
        return self._run(source, folder, outputs, thresh, labels, fps,
                         dict(trail_length=trails, draw_uncertainty=uncertainty))

    def new_stream(self) -> StreamState:
        """Return a new stream state for :meth:`track`; each video needs one."""
        return self.model.new_stream()

    def track(self, images: Sequence[np.ndarray], streams: Sequence[StreamState], *, thresh: float = 0.5,
              classes: Sequence[str | int] = ()) -> list[DetDataSample]:
        """Find and track the objects in the next frame of each of N videos, for frames that arrive one by one.

        Images of equal size share a batch of the network.

        Args:
            images: N images, (H, W, 3) uint8 BGR or (H, W) uint8.
            streams: N different states made by :meth:`new_stream`; they are updated. ``copy.deepcopy`` and ``pickle``
                save a state; ``reset()`` prepares it for another video.
            thresh, classes: see :meth:`__call__`.

        Returns:
            N frames with ``pred_track_instances`` and ``ori_img``. Models that use frames of context get none.

        Raises:
            UserError: an image has another shape or type, or a state is given twice.
        """
        check_video_options(thresh=thresh)
        labels = self._labels(classes)
        if len(images) != len(streams) or len({id(state) for state in streams}) < len(streams):
            raise UserError(f'given: {counted(len(images), "image")} and '
                            f'{counted(len(streams), "stream state")}; give each image a state of its own')
        clips = [self._packed([_frame_dict(VideoFrame(bgr_image(image, position), frame_id := state.frame_id + 1),
                                           frame_id)])
                 for position, (image, state) in enumerate(zip(images, streams))]
        frames = []
        if clips:
            keys = ('inputs', 'data_samples')
            batch = {key: [clip[key] for clip in clips] for key in keys} | {'streams': streams}
            (_, results), = run_test_steps(self.model, [batch], self._amp, overlap=False)
            for clip in results:
                clip[0].pred_track_instances = _select(clip[0], thresh, labels)
                frames.append(clip[0])
        return frames

    def to_json(self, frame: DetDataSample) -> dict:
        """Return a frame as a dict of Python types, which ``json.dumps`` accepts; see :func:`frame_json`."""
        return frame_json(frame, self.category_ids, self.class_names)

    def to_masks(self, frame: DetDataSample) -> np.ndarray:
        """Return the masks of the n objects of a frame as (n, h, w) bool in the size of the frame."""
        return frame_masks(frame)

    def to_supervision(self, frame: DetDataSample) -> Detections:
        """Return a frame as ``supervision.Detections``, see :func:`frame_detections`."""
        return frame_detections(frame, self.class_names)

    def _run(self, source: VideoSource, out: Path | None, outputs: Sequence[str], thresh: float,
             labels: list[int] | None, fps: float | None, marks: dict[str, Any]) -> Iterator[TrackDataSample]:
        with ExitStack() as files:
            sink = None if out is None else files.enter_context(self._sink(source, out, outputs, fps, marks))
            clips = self._clips(source)
            if source.live is None or source.live.every_frame:  # else working ahead would use older frames
                clips = in_background(clips, CLIPS_AHEAD, patience=CLOSING)
            files.callback(clips.close)
            stream = self.model.new_stream()
            batches = (data | {'streams': [stream]} for data in clips)
            overlap = self._overlap and source.live is None  # results of a camera must not wait for its next frames
            for _, (clip,) in run_test_steps(self.model, batches, self._amp, overlap):
                for frame in clip:
                    frame.pred_track_instances = _select(frame, thresh, labels)
                if sink is not None:
                    sink.add_all(clip)
                if source.live is not None:
                    for frame in clip:
                        source.live.delivered(frame.source_frame)
                yield clip

    def _sink(self, source: VideoSource, out: Path, outputs: Sequence[str], fps: float | None,
              marks: dict[str, Any]) -> FrameSink:
        consumers: list[Any] = []
        if 'json' in outputs:
            consumers.append(VideoResultWriter(out / source.name, self.category_ids, self.class_names, fps))
        if 'masks' in outputs:
            consumers.append(IndexMaskWriter(out / 'masks' / source.name, self.class_names))
        if 'mot' in outputs:
            consumers.append(MotWriter(out / 'mot' / f'{source.name}.txt'))
        if 'mots' in outputs:
            consumers.append(MotsWriter(out / 'mots' / f'{source.name}.txt', self.category_ids))
        if kinds := [kind for kind in outputs if kind in PICTURES]:
            # objects below the threshold have already been removed
            visualizer = TrackVisualizer(self.class_names, score_thr=-1.0, **marks)
            consumers.append(SequenceVisualizer(out, fps=fps or source.fps, outputs=kinds, visualizer=visualizer,
                                                use_times=fps is None, audio=_video_file(source),
                                                painters=painter_processes()))
        return FrameSink(*consumers, clip=self.batch)

    def _clips(self, source: VideoSource) -> Generator[dict, None, None]:
        """Yield preprocessed clips of ``batch`` consecutive frames and their context on either side."""
        window: deque[dict] = deque()
        first = 0  # position in the window of the first frame that is not yet part of a clip
        try:
            for frame_id, frame in enumerate(source):
                window.append(_frame_dict(frame, frame_id, source.length, source.name))
                if len(window) == first + self.batch + self._context:
                    yield self._pack(window, first)
                    first += self.batch
                    while first > self._context:
                        window.popleft()
                        first -= 1
            while first < len(window):
                yield self._pack(window, first)
                first += self.batch
        finally:
            source.close()

    def _pack(self, window: Iterable[dict], first: int) -> dict:
        after = first + self.batch
        # copies, because transforms change the dicts, and frames of context are used again
        data = self._packed([dict(frame, is_context=not first <= place < after) for place, frame in enumerate(window)
                             if first - self._context <= place < after + self._context])
        if self._on_gpu:
            data['inputs'] = data['inputs'].pin_memory()  # the copy to the GPU then does not wait for earlier work
        return {key: [value] for key, value in data.items()}

    def _packed(self, frames: list[dict]) -> dict:
        """Preprocess the frames of a clip: its ``inputs`` and ``data_samples``."""
        data = self._pipeline({'frames': frames, 'rng': None, 'on_bad_frame': None})
        for sample, frame in zip(data['data_samples'], frames):
            add_metainfo(sample, {key: frame[key] for key in ('video_name', 'source_frame', 'time', 'dropped')
                                  if frame[key] is not None or key != 'dropped'})
        return data

    def _labels(self, classes: Sequence[str | int]) -> list[int] | None:
        """Return the labels of the requested classes; None: all."""
        lowered = [name.lower() for name in self.class_names or ()]
        labels = []
        for chosen in classes:
            text = str(chosen).lower()
            if text in lowered:
                labels.append(lowered.index(text))
            elif text.isdecimal() and (not lowered or int(text) < len(lowered)):
                labels.append(int(text))
            else:
                near = difflib.get_close_matches(text, lowered, n=3, cutoff=0.5) or lowered[:40]
                known = f'; there are {", ".join(near)}' if near else '; the checkpoint names no classes: give numbers'
                raise UserError(f'--classes {chosen}: the model knows no such class{known}')
        return labels or None


def _pipeline(steps: Sequence[dict], max_size: int | None) -> Compose:
    """Build the config's test pipeline with a limited scale and without the steps that read images."""
    init_default_scope('mmdet')
    chosen = []
    for step in steps:
        if step['type'] in _READERS:
            continue
        if max_size is not None and 'scale' in step:
            step = {**step, 'scale': tuple(min(side, max_size) for side in step['scale'])}
        chosen.append(TRANSFORMS.build(step))
    return Compose(chosen)


def _video_file(source: VideoSource) -> Path | None:
    """Return the path of the video file that is read; None for other sources."""
    return source.path if source.path is not None and source.path.is_file() else None


def _frame_dict(frame: VideoFrame, frame_id: int, length: int | None = None, name: str = 'video') -> dict:
    """Return a frame in the format of ``LoadTrackFrames``; ``length`` and ``name`` are those of its video."""
    shape = frame.image.shape[:2]
    return dict(img=frame.image, ori_img=frame.image, img_path=frame.path, video_id=1, frame_id=frame_id,
                video_length=length, ori_shape=shape, img_shape=shape, scale_factor=1., flip=False,
                video_name=name, source_frame=frame.index, time=frame.time, dropped=frame.dropped)


def _select(frame: DetDataSample, thresh: float, labels: list[int] | None) -> InstanceData:
    """Return the objects of these classes above the threshold; their RLEs are text, which ``json.dumps`` accepts."""
    found = frame.pred_track_instances
    keep = (found.scores > thresh).numpy()
    if labels is not None:
        keep &= np.isin(found.labels.numpy(), labels)
    if not keep.all():
        found = select_instances(found, np.flatnonzero(keep).tolist())
    found.set_field([rle_text(rle) for rle in found.masks], 'masks')
    return found
