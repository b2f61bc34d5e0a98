# VidEoMT, ViT-L, on YouTube-VIS 2019: four query blocks.
_base_ = './videomt_small_ytvis2019.py'
model = dict(
    backbone=dict(
        embed_dims=1024, depth=24, num_heads=16, query_blocks=4, init_cfg=dict(checkpoint='dinov2_vit_large_reg4')))
iterations = 60000
train_cfg = dict(max_epochs=108)
param_scheduler = [dict(curve, end=iterations) for curve in _base_.param_scheduler]
