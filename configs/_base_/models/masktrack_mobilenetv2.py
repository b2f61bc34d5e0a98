# MaskTrack R-CNN with torchvision's MobileNetV2 (ImageNet weights).
_base_ = './masktrack_r50.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='TorchvisionBackbone',
        name='mobilenet_v2',
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/mobilenet_v2-b0353104.pth')),
    neck=dict(in_channels=None))
