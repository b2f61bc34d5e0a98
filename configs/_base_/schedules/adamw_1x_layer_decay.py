# 12 epochs of AdamW for pre-trained ViTs, whose lower blocks learn more slowly; lr is for 16 key/reference pairs.
# The rates are those with which detectors are fine-tuned from MAE's weights (ViTDet, arXiv 2203.16527); not tuned here.
train_cfg = dict(type='ResumableTrainLoop', max_epochs=12, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='InterruptibleTestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.1, fused=True),
    constructor='LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7),
    clip_grad=dict(max_norm=35, norm_type=2))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=501),
    dict(type='MultiStepLR', milestones=[9, 11], gamma=0.1, by_epoch=True, begin=0, end=12),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
