# SipMask-VIS, ResNet-50 (pytorch style) with FPN of five levels. Batch norms are frozen.
model = dict(
    type='SipMask',
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
        norm_requires_grad=False,
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/resnet50-11ad3fa6.pth')),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], start_level=1, out_channels=256, num_outs=5),
    bbox_head=dict(
        type='SipMaskHead',
        num_classes=40,
        in_channels=256,
        stacked_convs=3,
        strides=[8, 16, 32, 64, 128],
        center_radius=1.5,
        track_jitter=0.05,
        test_cfg=dict(
            nms_pre=200, score_thr=0.03, nms_thr=0.5, max_per_img=10, nms='per_class', quality_exponent=0.0)),
    tracker=dict(
        type='AssociationTracker', similarity='dot', temperature=1.0, match_coeff=(1.0, 2.0, 10.0), max_tracks=500))
