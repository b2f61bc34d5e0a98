"""Box likelihood of the conditional neural process (paper section 3.3); called by the MemCNP head in training.

Symbols: B images, P slots of locations, G objects.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def mixture_nll_loss(means: Tensor, sigmas: Tensor, gt_bboxes: Tensor, weights: Tensor, error: Tensor, slot_gt: Tensor,
                     positive: Tensor, num_points: int) -> Tensor:
    """Compute the negative log-likelihood of each object under a Gaussian mixture, plus the regression loss of σ.

    Each positive location is a component of its object's mixture. For object g with positives P_g:
    −log(Σ_{n∈P_g} w_n·𝒩(g; μ_n, σ_n)) / N + mean smooth-L1(σ_n, error_n).

    Args:
        means, sigmas: (B, P, 4) boxes x1,y1,x2,y2 and their standard deviations, relative to the size of the image.
        gt_bboxes: (B, G, 4) relative to the size of the image.
        weights: (B, P) mixture weights; they are normalised over each object's positives.
        error: (B, P) in [0, 2], the target of σ: class error plus box error.
        slot_gt: (B, P) index of each slot's object.
        positive: (B, P) bool.
        num_points: N, number of locations of an image.

    Returns:
        (B,) sum over the objects that have positives.
    """
    num_gt = gt_bboxes.shape[1]
    target = gt_bboxes.gather(1, slot_gt[..., None].expand(-1, -1, 4))  # (B, P, 4)
    log_density = (-0.5 * ((target - means) / sigmas) ** 2 - sigmas.log() - 0.5 * math.log(2 * math.pi)).sum(dim=-1)
    member = (slot_gt[:, None] == torch.arange(num_gt, device=slot_gt.device)[:, None]) & positive[:, None]  # (B, G, P)
    has_positive = member.any(dim=2)  # (B, G)
    log_weights = _log_normalise(weights.log(), member)
    # a finite value instead of −inf, so that gradients of empty rows are 0 instead of NaN
    log_terms = (log_weights + log_density[:, None]).masked_fill(~member, -1e30)
    nll = -log_terms.logsumexp(dim=2) / num_points
    regression = F.smooth_l1_loss(sigmas, error[..., None].expand_as(sigmas), reduction='none').mean(dim=-1)  # (B, P)
    regression = (regression[:, None] * member).sum(dim=2) / member.sum(dim=2).clamp(min=1)
    return torch.where(has_positive, nll + regression, 0.0).sum(dim=1)


def _log_normalise(log_weights: Tensor, member: Tensor) -> Tensor:
    """Compute log(w_n / Σ_{P_g} w) for every object: (B, P), (B, G, P) → (B, G, P); −1e30 outside."""
    masked = log_weights[:, None].masked_fill(~member, -1e30)
    return masked.log_softmax(dim=2)
