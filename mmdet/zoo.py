"""Table of public weights: name, address, hash and licence of each file.

:func:`mmdet.download.fetch` downloads them; ``tools/weights.py`` lists and verifies them. A checkpoint may be named
wherever a path is accepted: ``--load_from mae_vit_base``, ``init_cfg=dict(type='Pretrained', checkpoint='resnet50')``.
"""
from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from mmdet.errors import UserError

LOCAL_FOLDER = Path('data/weights')  # relative to the current folder; a file in it takes precedence over the cache
HUB_SCHEME = 'hf://'
_SCHEMES = ('https://', 'http://', HUB_SCHEME)


@dataclass(frozen=True)
class PublicWeights:
    """One file of published weights.

    Args:
        name: short name, accepted wherever a checkpoint is accepted.
        address: ``https://...`` or ``hf://owner/repository/file``.
        file: file name in ``data/weights`` and in the cache.
        part: content of the file, ``'backbone'`` or ``'detector'``. A backbone can initialise a training only.
        layout: description of the file format.
        licence: licence of the weights, as far as it is known.
        restricted: whether the licence restricts the use, for example to research; it is then printed.
        sha256: the hexadecimal SHA-256 digest or its published prefix; None: unknown, and the file is not verified.
        size: size of the file in MiB; None: unknown.
        configs: file names of the configs that start from the weights.
        page: web page for a manual download, if the server may refuse programs.
    """

    name: str
    address: str
    file: str
    part: Literal['backbone', 'detector']
    layout: str
    licence: str
    restricted: bool = False
    sha256: str | None = None
    size: float | None = None
    configs: tuple[str, ...] = ()
    page: str | None = None


_PLAIN = 'plain state dict (torch)'
_UNDER_MODEL = "state dict under 'model' (torch)"
_TORCHVISION = 'https://download.pytorch.org/models/'
_BSD = 'BSD-3-Clause (torchvision); trained on data with terms of their own'
_VIDEOMT = 'MIT for the code; the licence of the weights is not stated in what we have read'
_SWIN = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/'


def _mae(size: str, configs: tuple[str, ...] = ()) -> PublicWeights:
    file = f'mae_pretrain_vit_{size}.pth'
    return PublicWeights(f'mae_vit_{size}', f'https://dl.fbaipublicfiles.com/mae/pretrain/{file}', file, 'backbone',
                         _UNDER_MODEL, 'CC BY-NC 4.0: no commercial use', restricted=True, configs=configs)


def _torchvision(file: str, size: float, part: Literal['backbone', 'detector'] = 'backbone',
                 configs: tuple[str, ...] = ()) -> PublicWeights:
    """Describe a file of torchvision, whose name ends with the first digits of its SHA-256, as in torch.hub."""
    name, _, digest = file.removesuffix('.pth').rpartition('-')
    return PublicWeights(name, _TORCHVISION + file, file, part, _PLAIN, _BSD, sha256=digest, size=size, configs=configs)


def _dinov2(size: str, registers: bool) -> PublicWeights:
    """Describe a file of timm, under the name in timm's pretrained configs."""
    configs = tuple(f'videomt_{size}_{data}.py' for data in ('ovis', 'ytvis2019', 'ytvis2021', 'ytvis2022'))
    repository = f'vit_{size}_patch14_{"reg4_" if registers else ""}dinov2.lvd142m'
    return PublicWeights(f'dinov2_vit_{size}{"_reg4" if registers else ""}',
                         f'{HUB_SCHEME}timm/{repository}/model.safetensors', f'{repository}.safetensors', 'backbone',
                         'safetensors, timm\'s names', 'Apache-2.0', configs=configs if registers else ())


def _videomt(name: str, file: str) -> PublicWeights:
    return PublicWeights(name, f'{HUB_SCHEME}tue-mps/VidEoMT/{file}', f'videomt_{PurePosixPath(file).name}', 'detector',
                         f"{_UNDER_MODEL}, the authors' names", _VIDEOMT)


def _swin(name: str, file: str, configs: tuple[str, ...]) -> PublicWeights:
    return PublicWeights(name, _SWIN + file, file, 'backbone', _UNDER_MODEL, 'MIT', configs=configs)


_TABLE = (
    _mae('base', ('fcos_vitmae_1x.py', 'sipmask_vitmae_ms_1x.py', 'sipmask_vitmae_ms_1x_ovis.py',
                  'vitmae_cnp_contrast_ms_1x.py', 'vitmae_cnp_contrast_ms_1x_improved.py',
                  'vitmae_cnp_contrast_ms_1x_ovis.py', 'vitmae_cnp_contrast_ms_1x_ovis_improved.py',
                  'vitmae_cnp_joint_ms_1x.py')),
    _mae('large'),
    _torchvision('resnet18-f37072fd.pth', 44.661),
    _torchvision('resnet50-11ad3fa6.pth', 97.79, configs=(
        'R50_cnp_contrast_ms_1x_ovis.py', 'cmasktrack_rcnn_r50_fpn_1x_ovis.py', 'cmasktrack_rcnn_r50_fpn_1x_yvis.py',
        'masktrack_rcnn_r50_fpn_1x_yvis.py', 'sipmask_r50_fpn_gn_ms_1x.py')),
    _torchvision('resnet101-cd907fc2.pth', 170.53),
    _torchvision('mobilenet_v2-b0353104.pth', 13.555, configs=(
        'masktrack_mobilenetv2_davis.py', 'masktrack_mobilenetv2_davis_coco.py', 'memcnp_mobilenetv2_davis.py',
        'memcnp_mobilenetv2_davis_coco.py', 'memcnp_mobilenetv2_davis_improved.py', 'sipmask_mobilenetv2_davis.py',
        'sipmask_mobilenetv2_davis_coco.py')),
    _torchvision('maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth', 169.84, 'detector'),
    _torchvision('maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth', 177.219, 'detector'),
    # the name of the published file ends with 788b5fa3; whether that is of its SHA-256 could not be verified
    PublicWeights('resnet50_caffe', 'https://mmassets.onedl.ai/pretrain/third_party/resnet50_caffe-788b5fa3.pth',
                  'resnet50_caffe.pth', 'backbone', 'state dict, plain or under \'state_dict\' (torch)',
                  'Apache-2.0 (Detectron)', configs=(
                      'R50_cnp_contrast_ms_1x.py', 'fcos_r50_caffe_fpn_gn_1x.py',
                      'fcos_r50_caffe_fpn_gn_1x_improved.py', 'sipmask_r50_caffe_fpn_gn_ms_1x.py',
                      'sipmask_r50_fpn_gn_ms_1x_ovis.py')),
    _swin('swin_small', 'swin_small_patch4_window7_224.pth', (
        'sipmask_swin-s_fpn_ms_1x.py', 'sipmask_swin-s_fpn_ms_1x_4lvls.py', 'sipmask_swin-s_swinfpn_ms_1x.py')),
    _swin('swin_large', 'swin_large_patch4_window12_384_22k.pth', ('sipmask_swin-L_fpn_4lvls.py',)),
    *(_dinov2(size, registers) for size in ('small', 'base', 'large') for registers in (False, True)),
    _videomt('videomt_small_ytvis2019', 'yt_2019_vit_small_52.8.pth'),
    _videomt('videomt_base_ytvis2019', 'yt_2019_vit_base_58.2.pth'),
    _videomt('videomt_large_ytvis2019', 'yt_2019_vit_large_68.6.pth'),
    _videomt('videomt_large_ytvis2021', 'yt_2021_vit_large_63.1.pth'),
    _videomt('videomt_large_ytvis2022', 'yt_2022_vit_large_42.6.pth'),
    _videomt('videomt_large_ovis', 'ovis_vit_large_52.5.pth'),
    # weights trained on single frames, from which the authors start the training on videos
    _videomt('videomt_small_ytvis2019_stage1', 'dinov2_segmenter/yt_2019_small_segmenter.pth'),
    _videomt('videomt_base_ytvis2019_stage1', 'dinov2_segmenter/yt_2019_base_segmenter.pth'),
    _videomt('videomt_large_ytvis2019_stage1', 'dinov2_segmenter/yt_2019_large_segmenter.pth'),
    _videomt('videomt_large_ytvis2021_stage1', 'dinov2_segmenter/yt_2021_segmenter.pth'),
    _videomt('videomt_large_ytvis2022_stage1', 'dinov2_segmenter/yt_2022_segmenter.pth'),
    _videomt('videomt_large_ovis_stage1', 'dinov2_segmenter/ovis_segmenter.pth'),
    PublicWeights('videomt_small_ytvis2019_hf',
                  f'{HUB_SCHEME}tue-mps/videomt-dinov2-small-ytvis2019/model.safetensors',
                  'videomt-dinov2-small-ytvis2019.safetensors', 'detector', "safetensors, transformers' names",
                  _VIDEOMT),
    # its config and its size are not published
    PublicWeights('memcnp', 'https://drive.usercontent.google.com/download?id=1fUgaEtMw2H-KGVQqrOUnHPvLiOWqYle8'
                  '&export=download&confirm=t', 'memcnp.pth', 'detector', "state dict under 'state_dict' (torch)",
                  'not stated', page='https://drive.google.com/file/d/1fUgaEtMw2H-KGVQqrOUnHPvLiOWqYle8'),
)
WEIGHTS: dict[str, PublicWeights] = {entry.name: entry for entry in _TABLE}


def is_address(text: str | os.PathLike) -> bool:
    """Return whether a checkpoint is given by an ``https://``, ``http://`` or ``hf://`` address."""
    return str(text).startswith(_SCHEMES)


def find_weights(text: str | os.PathLike) -> PublicWeights | None:
    """Return the weights for a name, an address or a path ``data/weights/FILE``; None for any other path.

    For an address that is not in the table, a new entry without a hash is returned, whose file name is unique.

    Raises:
        UserError: the address names no file.
    """
    text = str(text)
    if text in WEIGHTS:
        return WEIGHTS[text]
    if is_address(text):
        return next((entry for entry in WEIGHTS.values() if entry.address == text), None) or _unlisted(text)
    if PurePosixPath(text).parent == PurePosixPath(LOCAL_FOLDER):
        return next((entry for entry in WEIGHTS.values() if entry.file == PurePosixPath(text).name), None)
    return None


def _unlisted(address: str) -> PublicWeights:
    if address.startswith(HUB_SCHEME):
        hub_parts(address)
    path = PurePosixPath(unquote(urlsplit(address).path))
    if not path.name or not urlsplit(address).netloc:
        raise UserError(f'{address}: names no file; give the address of a checkpoint file')
    # equal file names of different addresses must not replace each other
    unique = f'{path.stem[:80]}-{hashlib.sha256(address.encode()).hexdigest()[:8]}{path.suffix or ".pth"}'
    return PublicWeights(address, address, unique, 'detector', 'any that is supported', 'see the address')


def hub_parts(address: str) -> tuple[str, str]:
    """Split ``hf://owner/repository/file`` into ``owner/repository`` and ``file``; raise UserError for other forms."""
    owner, repository, file = ([*address.removeprefix(HUB_SCHEME).split('/', 2), '', '', ''])[:3]
    if not (owner and repository and file) or file.endswith('/'):
        raise UserError(f'{address}: expected {HUB_SCHEME}owner/repository/file')
    return f'{owner}/{repository}', file


def near_names(text: str, names: Iterable[str] = ()) -> str:
    """Return ``; did you mean ...?`` for a misspelt name of the table (or of ``names``), or an empty string."""
    close = difflib.get_close_matches(text, list(names) or list(WEIGHTS), n=3, cutoff=0.6)
    return f'; did you mean {" or ".join(close)} (tools/weights.py list)?' if close else ''
