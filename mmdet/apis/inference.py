"""Build a model for inference. Called by notebooks and tools."""
from __future__ import annotations

import os

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmdet.apis.config import load_config, pretrained_nodes
from mmdet.arguments import wrong_arguments
from mmdet.checkpoint import load_model, read_checkpoint
from mmdet.errors import UserError
from mmdet.export import open_exported, use_exported
from mmdet.registry import MODELS


def init_model(config: str | os.PathLike | Config, checkpoint: str | os.PathLike | None = None,
               device: str | torch.device | None = None) -> nn.Module:
    """Build the model of a config for inference.

    Args:
        config: config file, or a result of :func:`mmdet.apis.load_config`.
        checkpoint: trained weights, as :func:`mmdet.checkpoint.find_checkpoint` accepts them; None: random weights.
        device: device of the model; None: the GPU if there is one.

    Returns:
        The model in evaluation mode, with the attributes ``cfg`` (the config) and ``dataset_meta`` (a dict, with
        ``classes`` if the checkpoint contains them).

    Raises:
        UserError: the config or the checkpoint is invalid, they do not fit each other, or the device does not exist.
    """
    place = find_device(device)
    cfg = config.copy() if isinstance(config, Config) else load_config(config)
    init_default_scope('mmdet')
    for _, node in pretrained_nodes(cfg):
        node.init_cfg = None
    with wrong_arguments('model'):
        model = MODELS.build(cfg.model)
    model.cfg, model.dataset_meta = cfg, {}
    if checkpoint is not None:
        loaded = read_checkpoint(checkpoint)
        load_model(model, checkpoint, loaded)
        model.dataset_meta = (loaded.get('meta') or {}).get('dataset_meta', {})
    return model.to(place).eval()


def init_exported(config: str | os.PathLike | Config, path: str | os.PathLike,
                  device: str | torch.device | None = None) -> nn.Module:
    """Build the model of a config whose network is in a file of tools/export.py.

    Args:
        config: config file, or a result of :func:`mmdet.apis.load_config`.
        path: the file.
        device: as for :func:`init_model`.

    Returns:
        As :func:`init_model`; for videos only.

    Raises:
        UserError: as for :func:`init_model` and :func:`mmdet.export.open_exported`.
    """
    network = open_exported(path, find_device(device))
    model = init_model(config, device=device)
    use_exported(model, network)
    model.dataset_meta = network.metadata['dataset_meta']
    return model


def find_device(device: str | torch.device | None) -> torch.device:
    """Return the device of a name; None: the GPU if there is one. Raise UserError if it does not exist."""
    try:
        found = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        torch.empty(0, device=found)
    except Exception as error:  # torch raises RuntimeError, AssertionError, AcceleratorError, ...
        has = f'cpu, cuda:0 to cuda:{torch.cuda.device_count() - 1}' if torch.cuda.is_available() else 'cpu'
        raise UserError(f'--device {device}: not a device of this machine; there is {has}') from error
    return found
