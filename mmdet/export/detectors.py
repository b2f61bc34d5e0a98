"""Detectors that run an exported network instead of their own; everything else, such as tracking, remains theirs."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmdet.errors import UserError
from mmdet.export.exported_network import ExportedNetwork
from mmdet.export.networks import detector_name
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead, DeviceDetections, FrameGeometry
from mmdet.models.detectors import VidEoMT
from mmdet.models.detectors.single_stage import SingleStageDetector
from mmdet.models.detectors.videomt import ClipOutputs
from mmdet.paths import shown


class ExportedHead(nn.Module):
    """Stand-in for a dense head, whose "features" are the images.

    Args:
        head: the head, for the conversion of the network's outputs; its weights are not used.
        network: the network.
    """

    def __init__(self, head: BaseDenseHead, network: ExportedNetwork) -> None:
        super().__init__()
        self.head = head
        self._network = network

    def initial_state(self) -> None:
        """See :class:`BaseDenseHead`; networks with a state are not exported."""

    def predict(self, images: Tensor, geometries: Sequence[FrameGeometry], state: None = None) -> DeviceDetections:
        """Detect objects in images (B, 3, H, W), one after the other; see :class:`BaseDenseHead`."""
        frames = []
        for image, geometry in zip(images[:, None], geometries, strict=True):
            others = (image.new_tensor([geometry.img_shape]),) if self.head.clips_to_frame else ()
            frames.append(self._network(image, *others))
        return self.head.finish([torch.cat(parts) for parts in zip(*frames)], geometries)

    def results(self, *args: Any) -> Any:
        """See :class:`BaseDenseHead`."""
        return self.head.results(*args)


class ExportedQueries:
    """Stand-in for :meth:`VidEoMT.continue_clips`."""

    def __init__(self, network: ExportedNetwork, shape: tuple[int, int]) -> None:
        self._network, self._shape = network, shape

    def __call__(self, images: Tensor, kept: Sequence[Tensor | None]) -> ClipOutputs:
        clips = []
        for frames, before in zip(images, kept, strict=True):
            queries = frames.new_zeros(1, *self._shape) if before is None else before[None].to(frames.device)
            first = frames.new_tensor([float(before is None)])
            outputs = []
            for image in frames[:, None]:
                classes, masks, queries = self._network(image, queries, first)
                outputs.append((classes[0], masks[0]))
                first = torch.zeros_like(first)
            clips.append((*(torch.stack(parts) for parts in zip(*outputs)), queries[0]))
        return ClipOutputs(*(torch.stack(parts) for parts in zip(*clips)))


def use_exported(detector: nn.Module, network: ExportedNetwork) -> None:
    """Make a detector run an exported network, for videos. Its own backbone and heads are removed.

    Args:
        detector: detector of the config from which the network was exported, on the network's device.
        network: the network.

    Raises:
        UserError: the network is that of another kind of detector.
    """
    kind = detector_name(detector)
    if network.metadata.get('detector') != kind:
        raise UserError(f'{shown(network.path)}: holds the network of {network.metadata.get("detector")}, and the '
                        f"config's detector is {kind}; give the config from which it was exported")
    model = cast(Any, detector)
    model.cuda_graphs = False
    if isinstance(detector, VidEoMT):
        model.continue_clips = ExportedQueries(network, tuple(detector.head.query.weight.shape))
        model.backbone.vit.blocks = nn.ModuleList()
    else:
        assert isinstance(detector, SingleStageDetector)
        model.bbox_head = ExportedHead(detector.bbox_head, network)
        model.backbone = model.neck = nn.Identity()
