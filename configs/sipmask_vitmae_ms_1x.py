# SipMask-VIS, ViT-B (MAE), YouTube-VIS. 8 pairs on each of 4 GPUs.
_base_ = [
    './_base_/models/sipmask_vit.py', './_base_/datasets/yvis_ms_640x360.py', './_base_/schedules/sgd_1x.py',
    './_base_/default_runtime.py'
]
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=0.005))
auto_scale_lr = dict(base_batch_size=32)
