# SipMask-VIS as published: ResNet-50 (caffe style, BGR, no scaling), YouTube-VIS.
_base_ = './sipmask_r50_fpn_gn_ms_1x.py'
model = dict(
    data_preprocessor=dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(style='caffe', init_cfg=dict(checkpoint='data/weights/resnet50_caffe.pth')))
