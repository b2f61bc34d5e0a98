"""State of a stream of ``VidEoMT``, and the selection of the tracks of a video (arXiv 2602.17807, section 3).

Called by :mod:`mmdet.models.dense_heads.query_results`. The functions are pure functions of the state's tensors.

Symbols: Q queries, K classes, D channels, T frames of a video, M results of a video.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmdet.structures import StreamState


@dataclass(eq=False)
class QueryState(StreamState):
    """State of one video, whose size does not depend on the video's length.

    Attributes:
        queries: (Q, D) input queries of the next frame; None before the first.
        logit_sum: (Q, K + 1) float32, sum of the class logits of all frames so far; None before the first.
        num_frames: number of frames so far.
        open: (Q,) bool, whether a query may still be among the best M of the video; None: all may.
    """

    queries: Tensor | None = None
    logit_sum: Tensor | None = None
    num_frames: int = 0
    open: Tensor | None = None


def best_pairs(mean_logits: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Select the best M pairs of a query and a label.

    Args:
        mean_logits: (Q, K + 1), mean over the video's frames; the last class is "no object".
        number: M.

    Returns:
        Scores (m,) in descending order, labels (m,), queries (m,); m = min(M, Q·K). A query may occur with several
        labels.
    """
    probs = mean_logits.softmax(-1)[:, :-1]
    scores, places = probs.flatten().sort(descending=True, stable=True)
    scores, places = scores[:number], places[:number]
    return scores, places % probs.shape[1], places // probs.shape[1]


def logit_difference_range(norm: torch.nn.LayerNorm, classifier: torch.nn.Linear,
                           slack: float = 1.05) -> tuple[Tensor, Tensor]:
    """Bound the differences of a query's class logits in any frame.

    Logits are W·(γ∘x + β) + c with x of mean 0 and length at most √D, so that
    l_j − l_k = (w_j − w_k)·β + c_j − c_k ± √D·‖(w_j − w_k)∘γ without its mean‖.

    Args:
        norm: the LayerNorm (γ, β) before the classifier.
        classifier: (W, c).
        slack: factor of the range's half-width, for the rounding of half precision.

    Returns:
        Lower and upper bounds of l_j − l_k, (K + 1, K + 1) float32 each, row j, column k.
    """
    weight, bias = classifier.weight.float(), classifier.bias.float()
    centre = weight @ norm.bias.float() + bias
    centre = centre[:, None] - centre
    scaled = weight * norm.weight.float()
    scaled = scaled - scaled.mean(1, keepdim=True)
    reach = slack * weight.shape[1] ** 0.5 * torch.cdist(scaled, scaled, compute_mode='donot_use_mm_for_euclid_dist')
    return centre - reach, centre + reach


def can_enter(logit_sum: Tensor, seen: int, length: int, difference_range: tuple[Tensor, Tensor],
              number: int) -> Tensor:
    """Return which queries may be among the best M of the video, depending on the following frames.

    A query is excluded if the upper bound of its score, for every label, is below the lower bounds of the scores of M
    other pairs.

    Args:
        logit_sum: (Q, K + 1), sum over the ``seen`` frames.
        seen, length: number of frames so far, and of the whole video.
        difference_range: bounds returned by :func:`logit_difference_range`.
        number: M.

    Returns:
        (Q,) bool.
    """
    low, high = difference_range
    difference = logit_sum[:, :, None] - logit_sum[:, None]  # (Q, K + 1, K + 1): l_j − l_k
    rest = length - seen
    # log p_k = −logsumexp_j(l_j − l_k)
    best = -((difference + rest * low) / length).logsumexp(1)[:, :-1]
    worst = -((difference + rest * high) / length).logsumexp(1)[:, :-1]
    lowest = worst.flatten().topk(min(number, worst.numel())).values[-1]
    return (best >= lowest).any(1)
