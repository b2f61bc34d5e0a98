"""Contrastive loss of the track embeddings (paper section 3.4); called by the MemCNP head in training.

Symbols: B images, G key-frame and R reference-frame objects, P slots, C channels.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.1
NUM_NEGATIVES = 5


def contrastive_track_loss(queries: Tensor, references: Tensor, query_valid: Tensor, reference_valid: Tensor,
                           match: Tensor) -> Tensor:
    """Compute −log(Σ exp(positives) / Σ exp(negatives)) over a batch; similarities are cosine / 0.1.

    Positive pairs: a query and the same object in its reference frame. Negative pairs: each query with the 5 most
    similar other queries and the 5 most similar references of the batch, including its true match, as in the training
    of the published weights. Without any positive pair, B positives of similarity 1 are used instead.

    Args:
        queries: (B, G, C).
        references: (B, R, C).
        query_valid: (B, G) bool.
        reference_valid: (B, R) bool.
        match: (B, G) 1-based position of the same object in the reference frame, 0 if absent.

    Returns:
        Scalar; 0 without any negative pair.
    """
    batch = len(queries)
    q = F.normalize(queries, dim=-1).flatten(0, 1)  # (B·G, C)
    r = F.normalize(references, dim=-1).flatten(0, 1)  # (B·R, C)
    q_valid, r_valid = query_valid.flatten(), reference_valid.flatten()

    # index of the true match among all references of the batch
    column = (match - 1 + torch.arange(batch, device=match.device)[:, None] * references.shape[1]).flatten()
    paired = q_valid & (match > 0).flatten()
    positives = (q * r[column.clamp(min=0)]).sum(dim=-1) / TEMPERATURE
    positives = positives.masked_fill(~paired, -torch.inf)
    any_pair = paired.any()
    substitutes = torch.where(torch.arange(len(q), device=q.device) < batch, 1.0, -torch.inf)
    positives = torch.where(any_pair, positives, substitutes)

    others = q_valid[:, None] & q_valid & ~torch.eye(len(q), dtype=torch.bool, device=q.device)
    negatives = torch.cat([_hardest(q @ q.T / TEMPERATURE, others),
                           _hardest(q @ r.T / TEMPERATURE, q_valid[:, None] & r_valid)], dim=1).flatten()
    any_negative = negatives.isfinite().any()
    # without any negative pair, finite values keep gradients finite
    negatives = torch.where(any_negative, negatives, torch.zeros_like(negatives))
    loss = negatives.logsumexp(dim=0) - positives.logsumexp(dim=0)
    return torch.where(any_negative, loss, 0.0 * queries.sum())


def _hardest(similarity: Tensor, allowed: Tensor) -> Tensor:
    """Select the 5 highest allowed similarities of each row (n, m), −inf if there are fewer: (n, min(5, m))."""
    return similarity.masked_fill(~allowed, -torch.inf).topk(min(NUM_NEGATIVES, similarity.shape[1]), dim=1).values


def match_accuracy(coefficients: Tensor, references: Tensor, reference_valid: Tensor, match: Tensor,
                   kept: Tensor) -> Tensor:
    """Compute the percentage of kept locations whose argmax over [0, similarities to the references] is correct.

    The similarities are cosines with the references of the same image.

    Args:
        coefficients: (B, P, C) embeddings of the locations.
        references: (B, R, C).
        reference_valid: (B, R) bool.
        match: (B, P) 1-based position of the location's object in the reference frame, 0 if absent.
        kept: (B, P) bool.

    Returns:
        Scalar in [0, 100].
    """
    similarity = F.normalize(coefficients, dim=-1) @ F.normalize(references, dim=-1).transpose(1, 2)  # (B, P, R)
    similarity = similarity.masked_fill(~reference_valid[:, None], -torch.inf)
    best = torch.cat([torch.zeros_like(similarity[..., :1]), similarity], dim=-1).argmax(dim=-1)
    return 100 * ((best == match) & kept).sum() / kept.sum().clamp(min=1)
