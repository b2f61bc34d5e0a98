"""VidEoMT (CVPR 2026, arXiv 2602.17807): a plain ViT that segments and tracks with queries propagated between frames.

Built from a config by name; called by mmengine's runner in training and testing.

Symbols: B clips or streams, T frames, Q queries, K classes, D channels, N query blocks, H×W padded input.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmdet.models.cuda_graphs import InferenceGraphs
from mmdet.models.dense_heads.query_mask_criterion import Prediction
from mmdet.models.detectors.base import BaseDetector
from mmdet.models.detectors.videomt_weights import from_published
from mmdet.models.task_modules.hungarian import ClipTargets
from mmdet.models.trackers import QueryState, logit_difference_range
from mmdet.ops.device import Launched
from mmdet.registry import MODELS
from mmdet.structures import StreamState, TrackDataSample

_UPDATER = ('head.query_updater.weight', 'head.query_updater.bias')


class ClipOutputs(NamedTuple):
    """Outputs of the network for clips.

    Attributes:
        class_logits: (B, T, Q, K + 1); the last class is "no object".
        mask_logits: (B, T, Q, H/4, W/4).
        queries: (B, Q, D), input queries of the next frame after each clip.
    """

    class_logits: Tensor
    mask_logits: Tensor
    queries: Tensor


@MODELS.register_module()
class VidEoMT(BaseDetector):
    """Encoder-only online video instance segmentation.

    The first blocks of the backbone process all frames of a clip at once, the query blocks one frame after the other:
    the results do not depend on the length of clips. The state of a stream
    (:class:`~mmdet.models.trackers.QueryState`) contains the queries of its next frame.

    Args:
        backbone: config of a :class:`~mmdet.models.backbones.QueryViT`.
        head: config of a :class:`~mmdet.models.dense_heads.QueryMaskHead`; sizes default to the backbone's.
        criterion: config of the losses, by default a :class:`~mmdet.models.dense_heads.QueryMaskCriterion`.
        results: config of the conversion of logits to results, by default a
            :class:`~mmdet.models.dense_heads.QueryTrackResults`.
        cuda_graphs: on a GPU, replay the network as a CUDA graph in testing, one per shape.
        data_preprocessor: config.
        init_cfg: mmengine's.
    """

    def __init__(self, backbone: dict, head: dict, criterion: dict | None = None, results: dict | None = None,
                 cuda_graphs: bool = True, data_preprocessor: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(None, data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.head = MODELS.build(head, default_args=dict(embed_dims=self.backbone.embed_dims,
                                                         num_prefix=self.backbone.num_prefix))
        self.criterion = MODELS.build(criterion or dict(type='QueryMaskCriterion'))
        self.cuda_graphs = cuda_graphs
        self._graphs = InferenceGraphs()
        self.results = MODELS.build(results or dict(type='QueryTrackResults'))

    def train(self, mode: bool = True) -> VidEoMT:
        self._graphs.clear()  # training may replace tensors that the graphs read
        return super().train(mode)

    def _forward(self, inputs: Tensor) -> ClipOutputs:
        """Compute the outputs of clips at the beginning of their videos."""
        return self.run_clips(inputs)

    def run_clips(self, images: Tensor, queries: Tensor | None = None) -> ClipOutputs:
        """Compute the outputs of clips.

        Args:
            images: (B, T, 3, H, W).
            queries: (B, Q, D), input queries of the first frames; None for clips at the beginning of their videos.
        """
        tokens, queries = self._tokens(images, queries, auxiliary=False)
        return ClipOutputs(*self._read(self.backbone.norm(tokens[0]), images), queries)

    def new_stream(self) -> QueryState:
        """Return the state of a video before its first frame."""
        return QueryState()

    @torch.no_grad()
    def launch(self, inputs: Tensor, data_samples: list[TrackDataSample],
               streams: Sequence[StreamState | None] | None = None) -> Callable[[], list[TrackDataSample]]:
        """Run the network; return a function that computes the results.

        See :meth:`BaseDetector.launch` and :class:`~mmdet.models.dense_heads.QueryTrackResults`. The queries of the
        states are updated at once, everything else by the function.
        """
        states = cast(list[QueryState], self._states(data_samples, streams))
        padded = tuple(inputs.shape[-2:])
        difference_range = logit_difference_range(self.backbone.vit.norm, self.head.class_predictor)
        launched: list[tuple[list[int], Tensor, Tensor]] = []
        # clips of one stream are processed one after the other
        for group in _distinct(states):
            images = inputs[group] if len(group) < len(inputs) else inputs
            outputs = self.continue_clips(images, [
                None if data_samples[row][0].frame_id == 0 else states[row].queries for row in group])
            launched.append((group, outputs.class_logits, outputs.mask_logits))
            for place, row in enumerate(group):
                states[row].queries = outputs.queries[place].clone()  # without the queries of the other streams
        work = Launched(inputs.device)

        @torch.no_grad()
        def finish() -> list[TrackDataSample]:
            with work.results():
                for group, class_logits, mask_logits in launched:
                    for place, row in enumerate(group):
                        queries = states[row].queries  # of this or a later clip; advance() would delete them at frame 0
                        for frame in data_samples[row]:
                            states[row].advance(frame)
                        states[row].queries = queries
                        self.results.add(list(data_samples[row]), class_logits[place], mask_logits[place],
                                         states[row], padded, difference_range)
            return data_samples

        return finish

    def continue_clips(self, images: Tensor, kept: Sequence[Tensor | None]) -> ClipOutputs:
        """Compute the outputs of clips in testing.

        Args:
            images: (B, T, 3, H, W).
            kept: for each clip the queries (Q, D) from the frame before it; None at the beginning of a video.
        """
        first = self.head.first_queries(1)[0]
        queries = torch.stack([first if before is None else before.to(first.device) for before in kept])
        return (self._graphs.run(self.run_clips, images, queries) if self.cuda_graphs
                else self.run_clips(images, queries))

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Compute the losses of B clips of T frames; gradients flow through the queries from frame to frame."""
        targets = [ClipTargets.of(clip, (inputs.shape[-2], inputs.shape[-1]), inputs.device) for clip in data_samples]
        losses = self.criterion(self.training_predictions(inputs), targets)
        if inputs.shape[1] == 1:  # no frame follows, and DistributedDataParallel expects a gradient of every parameter
            losses['loss_ce'] = losses['loss_ce'] + 0 * sum(
                parameter.sum() for parameter in self.head.query_updater.parameters())
        return losses

    def training_predictions(self, images: Tensor) -> list[Prediction]:
        """Return the final prediction, then auxiliary ones from the input tokens of each query block except the last.

        As published, auxiliary predictions are computed without the final LayerNorm.
        """
        (last, *auxiliary), _ = self._tokens(images, None, auxiliary=True)
        return [self._read(tokens, images) for tokens in (self.backbone.norm(last), *auxiliary)]

    def _tokens(self, images: Tensor, queries: Tensor | None, auxiliary: bool) -> tuple[list[Tensor], Tensor]:
        """Compute tokens and the next frame's queries.

        Returns:
            A list of tokens (B, T, Q + ..., D): those after the last block and, if ``auxiliary``, the inputs of the
            first N − 1 query blocks; and the queries (B, Q, D) of the next frame.
        """
        encoded = self.backbone.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        if queries is None:
            queries = self.head.first_queries(len(images))
        frames = []
        for frame in encoded.unbind(1):
            tokens, entered = torch.cat([queries.to(frame.dtype), frame], dim=1), []
            for index in range(self.backbone.query_blocks):
                if auxiliary and index < self.backbone.query_blocks - 1:
                    entered.append(tokens)
                tokens = self.backbone.query_block(index, tokens)
            queries = self.head.next_queries(tokens)
            frames.append([tokens, *entered])
        return [torch.stack(of_frames, dim=1) for of_frames in zip(*frames)], queries

    def _read(self, tokens: Tensor, images: Tensor) -> Prediction:
        """Compute class and mask logits (B, T, ...) of tokens (B, T, Q + ..., D)."""
        classes, masks = self.head(tokens.flatten(0, 1), self.backbone.grid(images))
        shape = tokens.shape[:2]
        return classes.unflatten(0, shape), masks.unflatten(0, shape)

    def halve_weights(self, dtype: torch.dtype = torch.bfloat16) -> None:
        """Cast the weights of convolutions and linear layers once, instead of at every step under autocast.

        For testing under ``torch.autocast`` with the same dtype: same results, less time. Cannot be undone.
        """
        self._graphs.clear()
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                module.to(dtype)

    def convert_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert weights of the authors' files or of transformers' to this project's names.

        Weights trained on single frames, from which the authors start training on videos, may lack the query updater;
        it keeps its initial weights then, and a warning is logged.
        """
        converted = from_published(weights)
        lacking = [name for name in _UPDATER if name not in converted]
        if len(converted) + len(_UPDATER) == len(own := self.state_dict()) and len(lacking) == len(_UPDATER):
            print_log('The file has weights of single frames, without head.query_updater, which keeps its initial '
                      'weights. Train on videos before testing', 'current', logging.WARNING)
            converted |= {name: own[name] for name in lacking}
        return converted


def _distinct(states: Sequence[QueryState]) -> list[list[int]]:
    """Split the rows of a batch into groups that contain each state at most once."""
    groups: list[list[int]] = []
    for row, state in enumerate(states):
        number = sum(earlier is state for earlier in states[:row])
        if number == len(groups):
            groups.append([])
        groups[number].append(row)
    return groups
