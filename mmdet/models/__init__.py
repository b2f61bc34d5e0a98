from mmdet.models.backbones import *  # noqa: F403
from mmdet.models.necks import *  # noqa: F403
from mmdet.models.trackers import *  # noqa: F403
