from mmdet.models.backbones.resnet import ResNet
from mmdet.models.backbones.vit import ViT

__all__ = ['ResNet', 'ViT']
