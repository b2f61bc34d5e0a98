"""Backbones: ViT, ResNet, Swin, ViT with query tokens, and any network of timm and torchvision."""
from mmdet.models.backbones.query_vit import QueryViT
from mmdet.models.backbones.resnet import ResNet
from mmdet.models.backbones.swin import SwinTransformer
from mmdet.models.backbones.timm_backbone import TimmBackbone
from mmdet.models.backbones.torchvision_backbone import TorchvisionBackbone
from mmdet.models.backbones.vit import ViT

__all__ = ['QueryViT', 'ResNet', 'SwinTransformer', 'TimmBackbone', 'TorchvisionBackbone', 'ViT']
