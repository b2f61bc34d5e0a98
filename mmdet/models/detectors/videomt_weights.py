"""Conversion of VidEoMT's weights between this project, the authors' ``.pth`` files and transformers' safetensors.

Called by ``VidEoMT.convert_weights`` and ``tools/model_converters/convert_videomt.py``. :func:`videomt_names` defines
the parameter names for both directions.

Symbols: D channels, L blocks, A heads, N query blocks, Q queries, K classes, G side of the grid of positions.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mmdet.errors import UserError

_VIT, _AUTHORS_VIT = 'backbone.vit', 'backbone.encoder.backbone'
_POSITIONS = f'{_VIT}.pos_embed'
# further entries of published files, not used by the model
_UNUSED_HF = ('embeddings.mask_token', 'attn_mask_probs', 'criterion.empty_weight')
_UNUSED_AUTHORS = ('backbone.attn_mask_probs', 'criterion.empty_weight')
_NO_OBJECT_WEIGHT = 0.1  # of criterion.empty_weight


class VidEoMTSizes(NamedTuple):
    """Sizes of a model, determined from the shapes of its weights; ``query_blocks`` is None if they do not tell."""

    embed_dims: int
    depth: int
    num_heads: int
    query_blocks: int | None
    num_queries: int
    num_classes: int
    grid: int


def videomt_names(depth: int) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield the name of every parameter here, in the authors' files, and in transformers' (three for q, k, v)."""
    def both(own: str, authors: str, other: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        for kind in ('weight', 'bias'):
            yield f'{own}.{kind}', f'{authors}.{kind}', (f'{other}.{kind}',)

    yield f'{_VIT}.cls_token', f'{_AUTHORS_VIT}.cls_token', ('embeddings.cls_token',)
    yield f'{_VIT}.reg_token', f'{_AUTHORS_VIT}.reg_token', ('embeddings.register_tokens',)
    yield _POSITIONS, f'{_AUTHORS_VIT}.pos_embed', ('embeddings.position_embeddings.weight',)
    yield from both(f'{_VIT}.patch_embed.proj', f'{_AUTHORS_VIT}.patch_embed.proj',
                    'embeddings.patch_embeddings.projection')
    for index in range(depth):
        block, layer = f'blocks.{index}', f'layers.{index}'
        for kind in ('weight', 'bias'):
            yield (f'{_VIT}.{block}.attn.qkv.{kind}', f'{_AUTHORS_VIT}.{block}.attn.qkv.{kind}',
                   tuple(f'{layer}.attention.{part}_proj.{kind}' for part in 'qkv'))
        for part, other in (('norm1', 'norm1'), ('norm2', 'norm2'), ('attn.proj', 'attention.out_proj'),
                            ('mlp.fc1', 'mlp.fc1'), ('mlp.fc2', 'mlp.fc2')):
            yield from both(f'{_VIT}.{block}.{part}', f'{_AUTHORS_VIT}.{block}.{part}', f'{layer}.{other}')
        for number in (1, 2):
            yield (f'{_VIT}.{block}.ls{number}.gamma', f'{_AUTHORS_VIT}.{block}.ls{number}.gamma',
                   (f'{layer}.layer_scale{number}.lambda1',))
    yield from both(f'{_VIT}.norm', f'{_AUTHORS_VIT}.norm', 'layernorm')
    yield 'head.query.weight', 'backbone.q.weight', ('query.weight',)
    yield from both('head.query_updater', 'backbone.query_updater', 'query_updater')
    yield from both('head.class_predictor', 'backbone.class_head', 'class_predictor')
    for number in range(3):
        yield from both(f'head.mask_head.{2 * number}', f'backbone.mask_head.{2 * number}', f'mask_head.fc{number + 1}')
    for number in range(2):
        own, authors = f'head.upscale.{number}', f'backbone.upscale.{number}'
        other = f'upscale_block.block.{number}'
        yield from both(f'{own}.conv1', f'{authors}.conv1', f'{other}.conv1')
        yield f'{own}.conv2.weight', f'{authors}.conv2.weight', (f'{other}.conv2.weight',)
        yield from both(f'{own}.norm', f'{authors}.norm', f'{other}.layernorm2d')


def from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights of an authors' or a transformers' file to this project's names.

    Unused entries are dropped. Unknown names are kept, so that strict loading reports them. Weights of neither kind are
    returned unchanged.
    """
    weights = dict(weights)
    if 'embeddings.cls_token' in weights:
        ignored: tuple[str, ...] = _UNUSED_HF
        column = 2
    elif f'{_AUTHORS_VIT}.cls_token' in weights:
        ignored, column = _UNUSED_AUTHORS, 1
    else:
        return weights
    for name in ignored:
        weights.pop(name, None)
    converted = {}
    for own, authors, other in videomt_names(_count_blocks(weights)):
        sources = other if column == 2 else (authors,)
        if all(name in weights for name in sources):
            value = torch.cat([weights.pop(name) for name in sources])
            converted[own] = value[None] if own == _POSITIONS and value.ndim == 2 else value
    return converted | weights


def to_transformers(weights: Mapping[str, Tensor], query_blocks: int) -> dict[str, Tensor]:
    """Convert weights of this project to transformers' names, with the further entries that strict loading requires."""
    converted = {}
    for own, _, other in videomt_names(_count_blocks(weights)):
        value = weights[own]
        if own == _POSITIONS:
            value = value[0]
        for name, part in zip(other, value.chunk(len(other)), strict=True):
            converted[name] = part.contiguous()
    converted['embeddings.mask_token'] = torch.zeros_like(converted['embeddings.cls_token'])
    return converted | _unused(weights, query_blocks, '')


def to_authors(weights: Mapping[str, Tensor], query_blocks: int) -> dict[str, Tensor]:
    """Convert weights of this project to the authors' names; their files have them under the key ``model``."""
    converted = {authors: weights[own] for own, authors, _ in videomt_names(_count_blocks(weights))}
    return converted | _unused(weights, query_blocks, 'backbone.')


def _unused(weights: Mapping[str, Tensor], query_blocks: int, prefix: str) -> dict[str, Tensor]:
    """Return the buffers used in training only: class weights, and attention mask probabilities, which are 0."""
    class_weights = torch.ones(len(weights['head.class_predictor.bias']))
    class_weights[-1] = _NO_OBJECT_WEIGHT
    return {f'{prefix}attn_mask_probs': torch.zeros(query_blocks), 'criterion.empty_weight': class_weights}


def videomt_sizes(weights: Mapping[str, Tensor], source: str) -> VidEoMTSizes:
    """Determine the sizes of a model from its weights, with any names; raise a UserError for other models."""
    probabilities = next((value for name, value in weights.items() if name.endswith('attn_mask_probs')), None)
    own = from_published(weights)
    try:
        channels = own[f'{_VIT}.cls_token'].shape[-1]
        return VidEoMTSizes(
            embed_dims=channels, depth=_count_blocks(own), num_heads=max(channels // 64, 1),
            query_blocks=None if probabilities is None else len(probabilities),
            num_queries=len(own['head.query.weight']), num_classes=len(own['head.class_predictor.bias']) - 1,
            grid=math.isqrt(own[_POSITIONS].shape[-2]))
    except KeyError as error:
        raise UserError(f'{source}: no VidEoMT weights, {error.args[0]} is missing; use a file of tue-mps/VidEoMT, of '
                        'its transformers version, or a checkpoint of this project') from None


def _count_blocks(weights: Mapping[str, Tensor]) -> int:
    """Return L, the number of blocks."""
    prefixes = ('layers.', f'{_AUTHORS_VIT}.blocks.', f'{_VIT}.blocks.')
    numbers = {int(name.removeprefix(prefix).split('.', 1)[0]) for prefix in prefixes for name in weights
               if name.startswith(prefix)}
    return max(numbers, default=-1) + 1
