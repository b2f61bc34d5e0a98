"""Registries: children of mmengine's, so that ``dict(type='ViT', ...)`` in a config finds the class.

A name is looked up here first (scope ``mmdet``), then in mmengine and mmcv. Each registry imports its ``locations`` the
first time something is built, so a script needs no import list.
"""
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOG_PROCESSORS as MMENGINE_LOG_PROCESSORS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import PARAM_SCHEDULERS as MMENGINE_PARAM_SCHEDULERS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISBACKENDS as MMENGINE_VISBACKENDS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import WEIGHT_INITIALIZERS as MMENGINE_WEIGHT_INITIALIZERS
from mmengine.registry import Registry

# detectors, backbones, necks, heads, memories, trackers, losses, data preprocessors
MODELS = Registry('model', parent=MMENGINE_MODELS, locations=['mmdet.models'], scope='mmdet')
# assigners, samplers of boxes, anchor generators, box coders
TASK_UTILS = Registry('task util', parent=MMENGINE_TASK_UTILS, locations=['mmdet.models'], scope='mmdet')
# YVISDataset, OVISDataset, ...
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, locations=['mmdet.datasets'], scope='mmdet')
# steps of a data pipeline
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, locations=['mmdet.datasets.transforms'], scope='mmdet')
# samplers: the clips that a process reads, and their order
DATA_SAMPLERS = Registry('data sampler', parent=MMENGINE_DATA_SAMPLERS, locations=['mmdet.datasets'], scope='mmdet')
# YouTube-VIS and OVIS average precision
METRICS = Registry('metric', parent=MMENGINE_METRICS, locations=['mmdet.evaluation'], scope='mmdet')
# hooks of the runner
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, locations=['mmdet.engine'], scope='mmdet')
# training, validation and test loops
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, locations=['mmdet.engine'], scope='mmdet')
# drawing of results
VISUALIZERS = Registry('visualizer', parent=MMENGINE_VISUALIZERS, locations=['mmdet.visualization'], scope='mmdet')
# BFloat16OptimWrapper
OPTIM_WRAPPERS = Registry('optim wrapper', parent=MMENGINE_OPTIM_WRAPPERS, locations=['mmdet.engine'], scope='mmdet')
# Pretrained, which raises an error for weights that do not fit
WEIGHT_INITIALIZERS = Registry(
    'weight initializer', parent=MMENGINE_WEIGHT_INITIALIZERS, locations=['mmdet.checkpoint'], scope='mmdet')
# Registries without entries of this project: they and their locations prevent mmengine's warning of a missing scope.
OPTIMIZERS = Registry('optimizer', parent=MMENGINE_OPTIMIZERS, locations=['mmdet.engine'], scope='mmdet')
MODEL_WRAPPERS = Registry('model_wrapper', parent=MMENGINE_MODEL_WRAPPERS, locations=['mmdet.engine'], scope='mmdet')
OPTIM_WRAPPER_CONSTRUCTORS = Registry('optim wrapper constructor', parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
                                      locations=['mmdet.engine'], scope='mmdet')
PARAM_SCHEDULERS = Registry(
    'parameter scheduler', parent=MMENGINE_PARAM_SCHEDULERS, locations=['mmdet.engine'], scope='mmdet')
VISBACKENDS = Registry('vis_backend', parent=MMENGINE_VISBACKENDS, locations=['mmdet.engine'], scope='mmdet')
LOG_PROCESSORS = Registry('log_processor', parent=MMENGINE_LOG_PROCESSORS, locations=['mmdet.engine'], scope='mmdet')
