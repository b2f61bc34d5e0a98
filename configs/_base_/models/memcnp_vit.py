# MemCNP with a ViT-B backbone (MAE weights), FPN of four levels and the memory head.
# ViT-L: embed_dims=1024, depth=24, num_heads=16; ViT-H: 1280, 32, 16; neck.in_channels follow.
# The head's strides require patch_size=16: ViT-H is trained from scratch or from weights with 16-pixel patches, since
# MAE's published ViT-H has 14-pixel patches and is not compatible.
model = dict(
    type='SipMaskMem',
    data_preprocessor=dict(
        type='TrackDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32),
    backbone=dict(
        type='ViT',
        embed_dims=768,
        depth=12,
        num_heads=12,
        mlp_ratio=4.0,
        patch_size=16,
        with_cp=False,
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/mae_pretrain_vit_base.pth')),
    neck=dict(type='FPN', in_channels=[768, 768, 768], out_channels=256, num_outs=4),
    bbox_head=dict(
        type='CNPContrastHead',
        num_classes=40,
        in_channels=256,
        stacked_convs=3,
        strides=[8, 16, 32, 64],
        num_units=128,
        update_mode='top1',
        memory=dict(
            type='CNPMemory', read_temperature=1.0, decay='all', init_units='normal', per_level=False,
            online_memory=None),
        video_memory=None,
        write_target='published',
        assigner=dict(type='UncertaintyAssigner', top_k=4, max_top_k=None, fraction=0.25, scale_ranges=None),
        track_jitter=0.05,
        mask_upsample='bilinear',
        dice_weight=0.0,
        mask_margin=0.0,
        loss_weights=dict(
            loss_bbox=1.0, loss_cls=1.0, loss_cnp=1.0, loss_seg=1.0, loss_centerness=1.0, loss_match=1.0),
        test_cfg=dict(
            nms_pre=200, score_thr=0.015, nms_thr=0.5, max_per_img=10, nms='per_class', quality_exponent=0.0)),
    tracker=dict(
        type='AssociationTracker', similarity='cosine', temperature=0.1, match_coeff=(1.0, 2.0, 10.0), max_tracks=500))
