"""Any convolutional or Swin classification network of torchvision, selected by name, as a feature extractor.

Built from a config by name; called by the detectors in training and testing.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models
from torchvision.models.swin_transformer import SwinTransformer

from mmdet.errors import UserError
from mmdet.models.backbones.library_backbone import STAGE_STRIDES, LibraryBackbone
from mmdet.registry import MODELS

# modules whose children run in sequence, and modules after the last feature map
_CONTAINERS = ('features', 'trunk_output', 'layers')
_HEADS = ('avgpool', 'classifier', 'fc', 'head', 'norm')
# networks for a fixed image size, or whose modules do not run in the order of their definition: prefix of the name →
# network of timm to use instead
_UNSUPPORTED = {'vit': 'vit_base_patch16_224', 'maxvit': 'maxvit_tiny_tf_224', 'inception': 'inception_v4',
                'googlenet': 'inception_v4'}
_PROBE = 64  # side in pixels of the image with which strides are measured


@MODELS.register_module()
class TorchvisionBackbone(LibraryBackbone):
    """A network of torchvision with outputs at strides 4, 8, 16 and 32: the last map of each stride.

    Parameter names are torchvision's with the prefix ``net.``.

    Args:
        name: torchvision's name, such as ``'mobilenet_v2'`` or ``'convnext_tiny'``.
        pretrained: see :class:`~mmdet.models.backbones.library_backbone.LibraryBackbone`; also the name of one of
            torchvision's weights, such as ``'IMAGENET1K_V1'`` (``True`` selects torchvision's default weights).
        out_indices: maps returned, by stride: 0 for 4, 1 for 8, 2 for 16, 3 for 32. None returns all available ones.
        frozen_stages, norm_eval, with_cp, init_cfg: see the base class.

    Raises:
        UserError: if torchvision has no network of this name, it is not supported, or it lacks the stages.
    """

    def __init__(self, name: str, pretrained: bool | str = False, out_indices: Sequence[int] | None = None,
                 frozen_stages: int = -1, norm_eval: bool = True, with_cp: bool = False,
                 init_cfg: dict | None = None) -> None:
        if name not in list_models(module=torchvision.models):
            raise UserError(f'TorchvisionBackbone name={name!r}: torchvision {torchvision.__version__} has no such '
                            f'network; it has {", ".join(list_models(module=torchvision.models))}')
        other = next((ours for theirs, ours in _UNSUPPORTED.items() if name.startswith(theirs)), None)
        if other:
            raise UserError(f'TorchvisionBackbone {name}: this network is not supported as a feature extractor; use '
                            f"dict(type='TimmBackbone', name='{other}')")
        published = get_model_weights(name)
        self._published: WeightsEnum = published.DEFAULT
        if isinstance(pretrained, str) and pretrained in published.__members__:
            self._published, pretrained = published[pretrained], True
        super().__init__(name, pretrained, frozen_stages, norm_eval, with_cp, init_cfg)
        transforms = self._published.transforms()
        mean, std = (tuple(255 * value for value in values) for values in (transforms.mean, transforms.std))
        self.normalization = mean, std
        self.net = get_model(name, weights=None)
        complete = self.net.state_dict()
        self.channels_last = isinstance(self.net, SwinTransformer)
        sizes = self._measure()
        ends = {STAGE_STRIDES.index(stride): layer for layer, (stride, _) in sizes.items() if stride in STAGE_STRIDES}
        self.out_indices = self._check_indices(sorted(ends) if out_indices is None else out_indices, sorted(ends))
        self._outputs = {ends[index] for index in self.out_indices}
        self.out_strides = tuple(STAGE_STRIDES[index] for index in self.out_indices)
        self.out_channels = tuple(sizes[ends[index]][1] for index in self.out_indices)
        self._keep_until(ends[self.out_indices[-1]])
        names = list(sizes)
        first = names[0] if sizes[names[0]][0] in STAGE_STRIDES else None  # a patch embedding belongs to the stem
        self._stage = {layer: 0 if layer == first else sum(stride > end for end in (2, *STAGE_STRIDES[:-1]))
                       for layer, (stride, _) in sizes.items()}
        self._finish(complete, lambda parameter: next(
            stage for layer, stage in self._stage.items() if parameter.startswith(f'{layer}.')))

    def _layers(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the layers that run in sequence, up to the last feature map, with their names in ``net``."""
        for name, child in self.net.named_children():
            if name in _HEADS:
                return
            if name in _CONTAINERS:
                yield from ((f'{name}.{inner}', module) for inner, module in child.named_children())
            else:
                yield name, child

    @torch.no_grad()
    def _measure(self) -> dict[str, tuple[int, int]]:
        """Return stride and channels of the map after each layer; 0 if the stride is not a whole number."""
        self.net.eval()
        x = next(self.net.parameters()).new_zeros(1, 3, _PROBE, _PROBE)
        sizes = {}
        for name, layer in self._layers():
            x = layer(x)
            height, channels = (x.shape[1], x.shape[3]) if self.channels_last else (x.shape[2], x.shape[1])
            sizes[name] = (0 if _PROBE % height else _PROBE // height, channels)
        self.net.train()
        return sizes

    def _keep_until(self, last: str) -> None:
        """Remove the layers after the layer ``last``."""
        kept = set()
        for name, _ in self._layers():
            kept |= {name, name.split('.')[0]}
            if name == last:
                break
        for name, child in list(self.net.named_children()):
            if name not in kept:
                delattr(self.net, name)
            elif name in _CONTAINERS:
                for inner in [inner for inner, _ in child.named_children() if f'{name}.{inner}' not in kept]:
                    delattr(child, inner)

    def published_weights(self) -> dict[str, Tensor]:
        return dict(self._published.get_state_dict(progress=True, check_hash=True))

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        """Compute maps (B, C_i, ⌈H/s_i⌉, ⌈W/s_i⌉) of images (B, 3, H, W) for the strides s_i in ``out_strides``."""
        size, maps = x.shape[-2:], []
        x = self.pad(x)
        # checkpointed by stage: a layer may modify its input in place, but not the first layer of a stage
        for _, layers in groupby(self._layers(), key=lambda layer: self._stage[layer[0]]):
            names, modules = zip(*layers)
            stage = nn.Sequential(*modules)
            x = checkpoint(stage, x, use_reentrant=False) if self.with_cp and self.training else stage(x)
            if names[-1] in self._outputs:
                maps.append(x.permute(0, 3, 1, 2) if self.channels_last else x)
        return self.cropped(maps, size)
