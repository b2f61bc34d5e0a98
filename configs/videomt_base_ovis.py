# VidEoMT, ViT-B, on OVIS.
_base_ = './videomt_small_ovis.py'
model = dict(backbone=dict(embed_dims=768, num_heads=12, init_cfg=dict(checkpoint='dinov2_vit_base_reg4')))
