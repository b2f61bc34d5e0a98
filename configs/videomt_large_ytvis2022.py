# VidEoMT, ViT-L, on YouTube-VIS 2022 (long videos): four query blocks.
_base_ = './videomt_small_ytvis2022.py'
model = dict(
    backbone=dict(
        embed_dims=1024, depth=24, num_heads=16, query_blocks=4, init_cfg=dict(checkpoint='dinov2_vit_large_reg4')))
