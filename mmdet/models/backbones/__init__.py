"""Images to feature maps: ViT, ResNet, Swin."""
from mmdet.models.backbones.query_vit import QueryViT
from mmdet.models.backbones.resnet import ResNet
from mmdet.models.backbones.swin import SwinTransformer
from mmdet.models.backbones.vit import ViT

__all__ = ['QueryViT', 'ResNet', 'SwinTransformer', 'ViT']
