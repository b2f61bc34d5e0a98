# VidEoMT's schedule: AdamW for 40,000 steps of 8 clips; the ViT learns from step 500 on, its lower blocks more slowly.
# Gradients are not clipped; optim_wrapper.clip_grad="dict(max_norm=1.0)" does, and an average of the weights is kept by
# custom_hooks="[dict(type=EMAHook)]". 72 epochs of YouTube-VIS 2019 and as many clips of COCO are a few steps more.
iterations = 40000
train_cfg = dict(type='ResumableTrainLoop', max_epochs=72, val_interval=8)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='InterruptibleTestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor='LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.6),
    clip_grad=None)

param_scheduler = [
    dict(type='WarmupPolyLR', part='other', warmup=500, power=0.9, end=iterations),
    dict(type='WarmupPolyLR', part='decayed', delay=500, warmup=1000, power=0.9, end=iterations),
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
