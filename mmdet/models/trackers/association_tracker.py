"""Online tracker: gives the detections of each frame the ids of the objects seen before (paper section 3.4).

Called by the detectors' ``predict``, once a frame, in order. The only part of a model that holds video state.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserError
from mmdet.models.trackers.association import NEW_TRACK, association_scores, resolve_claims
from mmdet.registry import MODELS


@MODELS.register_module()
class AssociationTracker:
    """Matches by appearance, score, overlap and class; a match renews a track's embedding and box, not its label.

    Args:
        similarity: ``'cosine'`` or ``'dot'`` product of embeddings.
        temperature: the similarity is divided by it.
        match_coeff: weights of ln(score), IoU+ and equal label.
        max_tracks: tracks remembered at most; those unseen longest leave first. Ids are never reused within a video.
    """

    def __init__(self, similarity: str = 'cosine', temperature: float = 0.1,
                 match_coeff: tuple[float, float, float] = (1.0, 2.0, 10.0), max_tracks: int = 500) -> None:
        if similarity not in ('cosine', 'dot'):
            raise UserError(f"AssociationTracker similarity={similarity!r} is unknown; use 'cosine' or 'dot'")
        if max_tracks < 1:
            raise UserError(f'AssociationTracker max_tracks={max_tracks} leaves no memory; use 1 or more')
        self.similarity, self.temperature = similarity, temperature
        self.match_coeff, self.max_tracks = tuple(match_coeff), max_tracks
        self.reset()

    def reset(self) -> None:
        """Forget everything: call before the first frame of a video, with detections or without."""
        self.ids: list[int] = []
        self.last_seen: list[int] = []
        self.next_id = 0
        self.frame = 0
        self.embeddings = torch.zeros(0, 0)  # (M, C)
        self.bboxes = torch.zeros(0, 4)  # (M, 4) in original pixels
        self.labels = torch.zeros(0, dtype=torch.long)  # (M,)

    def _similarity(self, embeddings: Tensor) -> Tensor:
        if self.similarity == 'cosine':
            return F.normalize(embeddings, dim=1) @ F.normalize(self.embeddings, dim=1).T / self.temperature
        return embeddings @ self.embeddings.T / self.temperature

    def track(self, instances: InstanceData) -> InstanceData:
        """Detections of the next frame → those kept, with ``instances_id`` (int64).

        Args:
            instances: ``bboxes`` (n, 4) in original pixels, ``scores``, ``labels``, ``embeddings`` (n, C); best first; CPU.
        """
        self.frame += 1
        n = len(instances)
        if n == 0:
            instances.instances_id = torch.zeros(0, dtype=torch.long)
            return instances
        if self.ids:
            match_scores = association_scores(self._similarity(instances.embeddings.float()), instances.scores,
                                              instances.bboxes, instances.labels, self.bboxes, self.labels,
                                              self.match_coeff)
            kept, columns = resolve_claims(match_scores)
        else:
            self.embeddings = instances.embeddings.new_zeros(0, instances.embeddings.shape[1]).float()
            kept, columns = list(range(n)), [NEW_TRACK] * n
        instances = instances[torch.tensor(kept, dtype=torch.long)]
        instances.instances_id = torch.tensor(self._update(instances, columns), dtype=torch.long)
        return instances

    def _update(self, instances: InstanceData, columns: list[int]) -> list[int]:
        """Renew matched tracks, append new ones, forget the longest unseen; returns the id of each detection."""
        matched = [(i, column - 1) for i, column in enumerate(columns) if column != NEW_TRACK]
        new = [i for i, column in enumerate(columns) if column == NEW_TRACK]
        ids = [0] * len(columns)
        if matched:
            rows, tracks = (list(index) for index in zip(*matched))
            self.embeddings[tracks] = instances.embeddings[rows].float()
            self.bboxes[tracks] = instances.bboxes[rows]
            for row, track in matched:
                self.last_seen[track] = self.frame
                ids[row] = self.ids[track]
        if new:
            self.embeddings = torch.cat([self.embeddings, instances.embeddings[new].float()])
            self.bboxes = torch.cat([self.bboxes, instances.bboxes[new]])
            self.labels = torch.cat([self.labels, instances.labels[new]])
            for row in new:
                ids[row] = self.next_id
                self.ids.append(self.next_id)
                self.last_seen.append(self.frame)
                self.next_id += 1
        self._forget()
        return ids

    def _forget(self) -> None:
        if len(self.ids) <= self.max_tracks:
            return
        # stable: among tracks last seen in the same frame the oldest leave first
        order = sorted(range(len(self.ids)), key=lambda track: self.last_seen[track])
        stay = sorted(order[len(self.ids) - self.max_tracks:])
        self.embeddings, self.bboxes, self.labels = self.embeddings[stay], self.bboxes[stay], self.labels[stay]
        self.ids = [self.ids[track] for track in stay]
        self.last_seen = [self.last_seen[track] for track in stay]
