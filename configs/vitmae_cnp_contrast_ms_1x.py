# The default model: MemCNP, ViT-B (MAE), YouTube-VIS, multi-scale training, 12 epochs. 4 pairs on each of 4 GPUs.
_base_ = [
    './_base_/models/memcnp_vit.py', './_base_/datasets/yvis.py', './_base_/schedules/sgd_1x.py',
    './_base_/default_runtime.py'
]
train_dataloader = dict(batch_size=4)
