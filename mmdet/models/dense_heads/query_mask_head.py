"""Query embeddings, their propagation from frame to frame, and the class and mask predictions of query tokens.

VidEoMT (arXiv 2602.17807, section 3). Built from a config by name; called by the detector ``VidEoMT``.

Symbols: B frames, Q queries, K classes, D channels, R registers, h×w patches.
"""
from __future__ import annotations

import torch
from mmengine.model import BaseModule
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from mmdet.checkpoint import ClassRows
from mmdet.registry import MODELS


class UpscaleBlock(nn.Sequential):
    """Upsample (B, D, h, w) to (B, D, 2h, 2w): transposed convolution, GELU, depthwise convolution, layer norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = LayerNorm2d(channels, eps=1e-6)


@MODELS.register_module()
class QueryMaskHead(BaseModule):
    """Predict a class and a mask for every query token.

    Args:
        num_classes: K; the class with index K is "no object".
        embed_dims: D, as in the backbone.
        num_queries: Q; the index of a query is its track id.
        num_prefix: number of class and register tokens between queries and patches, 1 + R.
        init_cfg: mmengine's.
    """

    class_layers = {'class_predictor': ClassRows(background='last')}

    def __init__(self, num_classes: int = 40, embed_dims: int = 384, num_queries: int = 200, num_prefix: int = 5,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.num_queries = num_queries
        self.num_prefix = num_prefix
        self.query = nn.Embedding(num_queries, embed_dims)
        self.query_updater = nn.Linear(embed_dims, embed_dims)
        self.class_predictor = nn.Linear(embed_dims, num_classes + 1)
        self.mask_head = nn.Sequential(nn.Linear(embed_dims, embed_dims), nn.GELU(),
                                       nn.Linear(embed_dims, embed_dims), nn.GELU(),
                                       nn.Linear(embed_dims, embed_dims))
        self.upscale = nn.Sequential(UpscaleBlock(embed_dims), UpscaleBlock(embed_dims))

    def first_queries(self, batch: int) -> Tensor:
        """Return the input queries (batch, Q, D) of the first frame of a video."""
        return self.query.weight.expand(batch, -1, -1)

    def next_queries(self, tokens: Tensor) -> Tensor:
        """Compute the queries (B, Q, D) of the next frame from the tokens (B, Q + ..., D) after the last block."""
        return self.query_updater(tokens[:, :self.num_queries]) + self.query.weight

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Predict the classes and masks of all queries.

        Args:
            tokens: (B, Q + 1 + R + h·w, D).
            grid: (h, w).

        Returns:
            Class logits (B, Q, K + 1) and mask logits (B, Q, 4h, 4w), of stride 4 for patch size 16.
        """
        queries = tokens[:, :self.num_queries]
        patches = tokens[:, self.num_queries + self.num_prefix:]
        features = self.upscale(patches.transpose(1, 2).unflatten(2, grid))  # (B, D, 4h, 4w)
        masks = torch.einsum('bqc,bchw->bqhw', self.mask_head(queries), features)
        return self.class_predictor(queries), masks
