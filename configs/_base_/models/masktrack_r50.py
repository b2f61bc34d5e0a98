# MaskTrack R-CNN, ResNet-50 (pytorch style) with FPN. Published weights: legacy_boxes=True, init_cfg=None.
# The published trainings start from a Mask R-CNN trained on COCO (train.py --load_from FILE).
num_classes = 40
model = dict(
    type='MaskTrackRCNN',
    legacy_boxes=False,
    data_preprocessor=dict(
        type='TrackDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32),
    backbone=dict(
        type='ResNet',
        depth=50,
        style='pytorch',
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/resnet50-11ad3fa6.pth')),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5, extra_levels='pool'),
    rpn_head=dict(
        type='RPNHead',
        in_channels=256,
        strides=[4, 8, 16, 32, 64],
        anchor_scale=8,
        anchor_ratios=[0.5, 1.0, 2.0],
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3),
        sampler=dict(type='RandomBoxSampler', num=64, pos_fraction=0.5),
        nms_pre=200,
        nms_thr=0.7,
        max_per_img=200),
    bbox_head=dict(
        type='Shared2FCBBoxHead',
        num_classes=num_classes,
        in_channels=256,
        roi_size=7,
        fc_channels=1024,
        score_thr=0.05,
        nms_thr=0.5,
        max_per_img=10),
    mask_head=dict(type='FCNMaskHead', num_classes=num_classes, in_channels=256, num_convs=4, roi_size=14),
    track_head=dict(type='TrackHead', in_channels=256, roi_size=7, fc_channels=1024),
    assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5),
    sampler=dict(type='RandomBoxSampler', num=128, pos_fraction=0.25),
    tracker=dict(
        type='AssociationTracker', similarity='dot', temperature=1.0, match_coeff=(1.0, 2.0, 10.0), max_tracks=500))
