# VidEoMT, ViT-B, on YouTube-VIS 2019.
_base_ = './videomt_small_ytvis2019.py'
model = dict(backbone=dict(embed_dims=768, num_heads=12, init_cfg=dict(checkpoint='dinov2_vit_base_reg4')))
