"""CMaskTrack R-CNN (Qi et al., Occluded video instance segmentation, IJCV 2022).

MaskTrack R-CNN whose box and mask heads also use features of neighbouring frames.

Built from a config by name; called by mmengine's runner in training and testing.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.dense_heads.rpn_head import Candidates
from mmdet.models.detectors.base import is_context
from mmdet.models.detectors.mask_track_rcnn import Maps, MaskTrackRCNN, Read
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample


@MODELS.register_module()
class CMaskTrackRCNN(MaskTrackRCNN):
    """Detector whose box and mask heads read maps calibrated with a reference frame.

    Proposals and embeddings are computed from a frame's own maps.

    In training, the reference is the reference frame of the pair. In testing, all other frames within ``window`` frames
    of the current one are references, over which class logits, deltas and mask logits are averaged; a frame without
    neighbours is its own reference. Since the window includes future frames, a test clip contains up to ``window``
    context frames on either side (data set option ``context``), which have ``is_context=True`` in their metainfo. They
    have no results of their own and are removed from the clip. Without them, the window ends at the ends of the clip.
    Only tracks are kept between clips: calibrating a frame takes tens of times as long as computing its features, so
    that computing those of the context twice is cheap, and memory depends on the length of the clip, not of the video.

    Args:
        window: largest distance of a reference frame in testing, in frames.
        **kwargs: see :class:`MaskTrackRCNN`; ``track_head`` must be a ``CalibratedTrackHead``.
    """

    def __init__(self, *, window: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window = window

    def roi_maps(self, maps: Maps, ref_maps: Maps) -> Maps:
        """Calibrate the levels that the heads use; arguments and result are maps (B, C, h_l, w_l)."""
        levels = len(self.roi_extractor.strides)
        return self.track_head.calibrate(maps[:levels], ref_maps[:levels])

    def detect(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> Iterator[list[InstanceData]]:
        """Detect frame by frame, with all references of a frame at once."""
        maps, candidates = self.run_dense(inputs.flatten(0, 1), [frame for clip in data_samples for frame in clip])
        clips: list[list[Read]] = []
        first = 0
        for clip in data_samples:
            frame_ids = [frame.frame_id for frame in clip]
            clips.append([])
            for index, frame in enumerate(clip):
                if is_context(frame):
                    continue
                references = [first + other for other in self.references(frame_ids, index)]
                own, chosen = ([values[first + index:first + index + 1] for values in of_all]
                                for of_all in (maps, candidates))
                repeated = [level.expand(len(references), -1, -1, -1) for level in own]
                roi_maps = self.roi_maps(repeated, [level[references] for level in maps])
                clips[-1].append(self.launch_in_maps(own, Candidates(*chosen), roi_maps, [frame]))
            first += len(clip)
        return ([instances for read in launched for instances in read()] for launched in clips)

    def references(self, frame_ids: Sequence[int], index: int) -> list[int]:
        """Return the indices of the reference frames of ``frame_ids[index]``, which is its own if there is no other."""
        others = [other for other, frame_id in enumerate(frame_ids)
                  if 0 < abs(frame_id - frame_ids[index]) <= self.window]
        return others or [index]
