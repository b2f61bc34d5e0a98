# VidEoMT with ViT-S: a plain ViT (DINOv2 with registers, from timm) whose last blocks also process the queries.
# The published training starts from weights of single frames: --load_from videomt_small_ytvis2019_stage1.
model = dict(
    type='VidEoMT',
    data_preprocessor=dict(
        type='TrackDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32),
    backbone=dict(
        type='QueryViT',
        embed_dims=384,
        depth=12,
        num_heads=6,
        query_blocks=3,
        num_registers=4,
        patch_size=16,
        image_size=640,
        with_cp=False,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vit_small_reg4')),
    head=dict(type='QueryMaskHead', num_classes=40, num_queries=200),
    criterion=dict(type='QueryMaskCriterion', num_points=12544),
    results=dict(type='QueryTrackResults', max_per_video=10, score='frame', score_thr=0.05))
