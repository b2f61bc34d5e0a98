# 12 epochs of SGD; lr is for 16 key/reference pairs a step (4 GPUs × 4).
train_cfg = dict(type='ResumableTrainLoop', max_epochs=12, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='InterruptibleTestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=1e-4, fused=True),
    clip_grad=dict(max_norm=35, norm_type=2))

param_scheduler = [
    # lr · (1 - (1 - i/1000)(1 - 1/80)) at iteration i < 1000; mmengine counts both ends
    dict(type='LinearLR', start_factor=1 / 80, by_epoch=False, begin=0, end=1001),
    dict(type='MultiStepLR', milestones=[8, 11], gamma=0.1, by_epoch=True, begin=0, end=12),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
