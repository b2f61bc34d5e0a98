# MemCNP with ResNet-50 (caffe style), YouTube-VIS. 8 pairs on each GPU.
_base_ = [
    './_base_/models/memcnp_r50.py', './_base_/datasets/yvis.py', './_base_/schedules/sgd_1x.py',
    './_base_/default_runtime.py'
]
train_dataloader = dict(batch_size=8)
find_unused_parameters = True  # the head does not use the fifth level
auto_scale_lr = dict(base_batch_size=32)
