# VidEoMT, ViT-L, on OVIS: four query blocks.
_base_ = './videomt_small_ovis.py'
model = dict(
    backbone=dict(
        embed_dims=1024, depth=24, num_heads=16, query_blocks=4, init_cfg=dict(checkpoint='dinov2_vit_large_reg4')))
