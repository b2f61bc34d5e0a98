# FCOS with a ViT-B backbone (MAE weights) and FPN of four levels.
_base_ = './fcos_r50.py'
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='ViT',
        embed_dims=768,
        depth=12,
        num_heads=12,
        mlp_ratio=4.0,
        patch_size=16,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/mae_pretrain_vit_base.pth')),
    neck=dict(in_channels=[768, 768, 768], start_level=0, num_outs=4),
    bbox_head=dict(strides=[8, 16, 32, 64]))
