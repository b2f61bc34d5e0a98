"""Detectors and their components, built from a config by name. Importing this package registers them."""
from mmdet.models.backbones import *  # noqa: F403
from mmdet.models.data_preprocessors import *  # noqa: F403
from mmdet.models.dense_heads import *  # noqa: F403
from mmdet.models.detectors import *  # noqa: F403
from mmdet.models.memory import *  # noqa: F403
from mmdet.models.necks import *  # noqa: F403
from mmdet.models.roi_heads import *  # noqa: F403
from mmdet.models.task_modules import *  # noqa: F403
from mmdet.models.trackers import *  # noqa: F403
