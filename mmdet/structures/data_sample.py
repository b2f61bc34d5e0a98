"""Annotations and results of frames and clips, as data sets, models, metrics, writers and visualisers exchange them.

``DetDataSample`` is one frame, ``TrackDataSample`` a clip of frames of one video (training: key frame, reference frame;
testing: consecutive frames). Both hold data only.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.structures import BaseDataElement, InstanceData


class DetDataSample(BaseDataElement):
    """One frame.

    Metainfo: ``img_path``, ``video_id`` (the annotation file's own), ``frame_id`` (0-based position in the video),
    ``video_length`` (frames), ``ori_shape`` (h, w of the file's image), ``img_shape`` (h, w after resizing, without
    padding), ``scale_factor`` (float: network pixels per original pixel), ``flip`` (bool), ``batch_input_shape``
    (h, w after padding, set by the data preprocessor). Set only where true: ``is_context`` (the frame is only temporal
    context for others: the model returns no result for it and removes it from the clip), ``bad_frame`` (unreadable,
    black). For videos outside a data set: ``video_name`` (for the names of output files), ``source_frame`` (number in
    the source), ``time`` (seconds since the start of the source; None: unknown).

    Fields:
        gt_instances: ``bboxes`` (n, 4) float32, x1,y1,x2,y2 in network pixels; ``labels`` (n,) int64, 0-based;
            ``masks`` (n, h, w) uint8 in {0, 1}, network size; ``instances_id`` (n,) int64, the annotation's id, the
            same in every frame of the video.
        pred_track_instances: ``bboxes`` (n, 4) float32 in original pixels; ``scores`` (n,) in [0, 1]; ``labels`` (n,)
            int64, 0-based; ``instances_id`` (n,) int64, the track's id in its video; ``masks`` list of n compressed
            COCO RLE dicts of the original size; where the model estimates them ``uncertainties`` (n, 4) in [0, 1], of
            x1,y1,x2,y2, and ``centerness`` (n,) in [0, 1]. All on the CPU. Detectors of single images (FCOS) give
            neither ``instances_id`` nor ``masks``.
        video_candidates, video_tracks: set by models that know the results of a video only at its end. The former has
            the fields of ``pred_track_instances`` for all objects of the frame that may belong to a result; the latter,
            in the last frame, has ``instances_id``, ``labels`` and ``scores`` of the results, by descending score. An
            object may have several results with different labels.
        ori_img: (H, W, 3) uint8 BGR image of the original size; only if the pipeline keeps it for visualisation.
    """

    gt_instances: InstanceData
    pred_track_instances: InstanceData
    video_candidates: InstanceData
    video_tracks: InstanceData


class TrackDataSample(BaseDataElement):
    """A clip: ``video_data_samples`` is a list of :class:`DetDataSample` in the order of the clip's frames."""

    video_data_samples: list[DetDataSample]

    def __len__(self) -> int:
        return len(self.video_data_samples) if 'video_data_samples' in self else 0

    def __getitem__(self, index: int) -> DetDataSample:
        return self.video_data_samples[index]

    def __iter__(self) -> Iterator[DetDataSample]:
        return iter(self.video_data_samples)

    def to_tensor(self) -> TrackDataSample:
        return self._each_frame('to_tensor')

    def to(self, *args: Any, **kwargs: Any) -> TrackDataSample:
        """Return a copy whose frames have the given device or type, see ``torch.Tensor.to``."""
        return self._each_frame('to', *args, **kwargs)

    def cpu(self) -> TrackDataSample:
        return self._each_frame('cpu')

    def cuda(self) -> TrackDataSample:
        return self._each_frame('cuda')

    def _each_frame(self, method: str, *args: Any, **kwargs: Any) -> TrackDataSample:
        new = self.new()
        new.video_data_samples = [getattr(frame, method)(*args, **kwargs) for frame in self.video_data_samples]
        return new
