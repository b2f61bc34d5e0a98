"""Find checkpoints, read them without executing code, and load them strictly. All files of weights are read here.

Called by the runner (``--load_from``, ``--resume_from``, testing), by ``init_model`` and, as the initialiser
``Pretrained``, by backbones.
"""
from mmdet.checkpoint.class_layers import ClassRows
from mmdet.checkpoint.loading import (
    StrictPretrainedInit,
    load_backbone_weights,
    load_initial_weights,
    load_model,
    load_weights,
)
from mmdet.checkpoint.reading import (
    find_checkpoint,
    is_whole,
    newest_whole_checkpoint,
    read_checkpoint,
    trained_classes,
    weights_of,
)

__all__ = [
    'ClassRows', 'StrictPretrainedInit', 'find_checkpoint', 'is_whole', 'load_backbone_weights',
    'load_initial_weights', 'load_model', 'load_weights', 'newest_whole_checkpoint', 'read_checkpoint',
    'trained_classes', 'weights_of']
