# FCOS as first published: ResNet-50 (caffe style, BGR, no scaling) with FPN of five levels, COCO's 80 classes.
model = dict(
    type='FCOS',
    data_preprocessor=dict(
        type='TrackDataPreprocessor',
        mean=[102.9801, 115.9465, 122.7717],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_size_divisor=32),
    backbone=dict(
        type='ResNet',
        depth=50,
        style='caffe',
        frozen_stages=1,
        norm_eval=True,
        norm_requires_grad=False,
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/resnet50_caffe.pth')),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], start_level=1, out_channels=256, num_outs=5),
    bbox_head=dict(
        type='FCOSHead',
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        strides=[8, 16, 32, 64, 128],
        center_radius=None,
        centerness_on_reg=False,
        norm_on_bbox=False,
        box_loss='iou',
        test_cfg=dict(nms_pre=1000, score_thr=0.05, nms_thr=0.5, max_per_img=100, nms='per_class')))
