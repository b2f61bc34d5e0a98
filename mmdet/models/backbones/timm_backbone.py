"""Any backbone of timm, selected by name; plain vision transformers get a feature pyramid (paper section 3.1).

Built from a config by name; called by the detectors in training and testing.

Symbols: B images, H×W padded input, P patch size, C channels, D depth of a transformer.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import timm
import torch
from mmengine.logging import print_log
from timm.models import group_parameters
from torch import Tensor

from mmdet.errors import UserError
from mmdet.models.backbones.library_backbone import COARSEST, STAGE_STRIDES, LibraryBackbone
from mmdet.ops.resize import resize
from mmdet.registry import MODELS

_QUARTERS = 4


@MODELS.register_module()
class TimmBackbone(LibraryBackbone):
    """A network of timm with outputs at strides 4, 8, 16 and 32, or at 8, 16 and 32 if it is a plain transformer.

    A plain transformer (ViT, DINOv2, DINOv3, EVA, BEiT, SAM's) has a single grid of tokens. Its maps are computed as in
    :class:`~mmdet.models.backbones.ViT`: the tokens after the second quarter of the blocks at stride 8, after the third
    at stride 16, after the fourth at stride 32, each bilinearly resized from the grid of stride P. Its input is padded
    with zeros at the bottom and the right to a multiple of P.

    Args:
        name: timm's name, optionally with a tag: ``'mobilenetv2_100'``, ``'vit_small_patch14_dinov2.lvd142m'``.
        pretrained: see :class:`~mmdet.models.backbones.library_backbone.LibraryBackbone`; the keys of a file may be
            timm's, or those of the original authors if timm can convert them.
        out_indices: maps returned, by stride: 0 for 4, 1 for 8, 2 for 16, 3 for 32. None returns all available ones.
        frozen_stages: a stage of a plain transformer is a quarter of its blocks.
        norm_eval, with_cp, init_cfg: see the base class.
        model_args: further arguments of timm's constructor, such as ``dict(drop_path_rate=0.1)``.

    Raises:
        UserError: if timm has no network of this name, or the network has no feature maps or lacks the stages.
    """

    net: Any  # timm's networks have methods that nn.Module does not have

    def __init__(self, name: str, pretrained: bool | str = False, out_indices: Sequence[int] | None = None,
                 frozen_stages: int = -1, norm_eval: bool = True, with_cp: bool = False,
                 model_args: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(name, pretrained, frozen_stages, norm_eval, with_cp, init_cfg)
        self.model_args = dict(model_args or {})
        self.net = self._create()
        config = self.net.pretrained_cfg
        mean, std = (tuple(255 * value for value in config[key]) for key in ('mean', 'std'))
        self.normalization = mean, std
        complete = self.net.state_dict()
        info = list(self.net.feature_info)
        strides = [level['reduction'] for level in info]
        self.is_plain = len(set(strides)) == 1 and len(strides) >= _QUARTERS
        if self.is_plain:
            # stage k ends with block D·k/4; the first stage has no output map
            ends = [len(info) * quarter // _QUARTERS - 1 for quarter in range(1, _QUARTERS + 1)]
            levels = dict(zip((1, 2, 3), ends[1:]))
        else:
            levels = {STAGE_STRIDES.index(stride): index for index, stride in enumerate(strides)
                      if stride in STAGE_STRIDES}
            ends = [levels[stage] for stage in sorted(levels)]
        stage_ends = [info[end]['module'] for end in ends]
        self.stem_end = info[ends[0] - 1]['module'] if ends[0] and not self.is_plain else None
        self.patch_size = strides[0]
        self.out_indices = self._check_indices(sorted(levels) if out_indices is None else out_indices, sorted(levels))
        self.out_channels = tuple(info[levels[index]]['num_chs'] for index in self.out_indices)
        self.out_strides = tuple(STAGE_STRIDES[index] for index in self.out_indices)
        self._taken = self.net.prune_intermediate_layers([levels[index] for index in self.out_indices], prune_norm=True)
        self._finish(complete, self._stages(stage_ends).__getitem__)
        if with_cp:
            self._checkpoint(True)

    def _create(self, pretrained: bool = False) -> Any:
        """Build the complete network, accepting inputs of any size if timm supports it."""
        try:
            timm.get_pretrained_cfg(self.name, allow_unregistered=False)
        except RuntimeError:
            similar = timm.list_models(f'*{self.name.split(".")[0].split("_")[0]}*')[:4]
            hint = f', such as {", ".join(similar)}' if similar else ''
            raise UserError(f'TimmBackbone name={self.name!r}: timm {timm.__version__} has no such network; '
                            f'timm.list_models() lists all names{hint}') from None
        attempts: tuple[dict[str, Any], ...] = (dict(dynamic_img_size=True), {})
        for sizes in attempts:
            try:
                net: Any = timm.create_model(self.name, pretrained=pretrained, **(sizes | self.model_args))
                break
            except TypeError as error:  # not every network has the argument
                if not sizes or 'dynamic_img_size' not in str(error):
                    raise UserError(f'TimmBackbone {self.name}: model_args={self.model_args} are not accepted: '
                                    f'{error}') from None
        if net.pretrained_cfg['fixed_input_size'] and not sizes:
            self._check_sizes(net)
        if not hasattr(net, 'forward_intermediates') or not getattr(net, 'feature_info', None):
            raise UserError(f'TimmBackbone {self.name}: timm does not provide feature maps of this network; choose '
                            'another')
        return net

    @torch.no_grad()
    def _check_sizes(self, net: Any) -> None:
        """Raise a UserError if the network accepts images of one size only."""
        try:
            net.eval()(torch.zeros(1, 3, COARSEST, 2 * COARSEST))
        except (AssertionError, RuntimeError):
            side = net.pretrained_cfg['input_size'][-1]
            raise UserError(f'TimmBackbone {self.name}: this network accepts only images of {side}×{side} pixels, but '
                            'videos have other sizes; choose one for any size, such as convnext_tiny') from None
        net.train()

    def _stages(self, stage_ends: Sequence[str]) -> dict[str, int]:
        """Return the stage of every parameter by name; 0 is the stem, before the first stage."""
        if self.frozen_stages >= 0 and not hasattr(self.net, 'group_matcher'):
            raise UserError(f'TimmBackbone {self.name}: frozen_stages={self.frozen_stages}, but timm does not provide '
                            'the order of the layers of this network; set frozen_stages=-1')
        if not hasattr(self.net, 'group_matcher'):
            return {name: len(STAGE_STRIDES) for name, _ in self.net.named_parameters()}
        group = group_parameters(self.net, self.net.group_matcher(coarse=True), reverse=True)

        def last_group(module: str | None) -> int:
            return max((number for name, number in group.items() if name.startswith(f'{module}.')), default=0)

        ends = [last_group(self.stem_end), *(last_group(module) for module in stage_ends)]
        return {name: next((stage for stage, end in enumerate(ends) if group.get(name, 0) <= end), len(STAGE_STRIDES))
                for name, _ in self.net.named_parameters()}

    def _checkpoint(self, enable: bool) -> None:
        try:
            self.net.set_grad_checkpointing(enable)
        except (AttributeError, AssertionError):
            raise UserError(f'TimmBackbone {self.name}: timm does not support activation checkpointing for this '
                            'network; set with_cp=False') from None

    def train(self, mode: bool = True) -> TimmBackbone:
        super().train(mode)
        if self.with_cp:
            self._checkpoint(mode)
        return self

    def published_weights(self) -> dict[str, Tensor]:
        return self._create(pretrained=True).state_dict()

    def convert_library_names(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        net = self._create()  # complete, since files contain all weights
        names = net.state_dict()
        # a module of timm defines this function if the files of the original authors have other keys
        convert = getattr(sys.modules[type(net).__module__], 'checkpoint_filter_fn', None)
        if convert is not None:
            weights = convert(weights, net)
        shapes = [value.shape for value in names.values()]
        if not set(names).intersection(weights) and [value.shape for value in weights.values()] == shapes:
            print_log(f"TimmBackbone {self.name}: no key of the file is one of timm's; its {len(weights)} tensors have "
                      'the shapes of this network in the same order and are loaded by position', 'current')
            weights = dict(zip(names, weights.values()))
        return weights

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        """Compute maps (B, C_i, ⌈H/s_i⌉, ⌈W/s_i⌉) of images (B, 3, H, W) for the strides s_i in ``out_strides``."""
        size = x.shape[-2:]
        maps = self.net.forward_intermediates(self.pad(x, self.patch_size if self.is_plain else 1),
                                              indices=self._taken, intermediates_only=True)
        if self.is_plain:
            factors = [self.patch_size / stride for stride in self.out_strides]
            maps = [feat if factor == 1 else resize(feat, factor) for feat, factor in zip(maps, factors)]
        return self.cropped(maps, size)
