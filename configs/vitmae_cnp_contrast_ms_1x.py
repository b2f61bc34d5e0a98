# The default model: MemCNP, ViT-B (MAE), YouTube-VIS, multi-scale training, 12 epochs. 4 pairs on each of 4 GPUs.
_base_ = [
    './_base_/models/memcnp_vit.py', './_base_/datasets/yvis.py', './_base_/schedules/sgd_1x.py',
    './_base_/default_runtime.py'
]
# a few padded sizes, so that CUDA graphs of the training cover an epoch; activation checkpointing only where needed
model = dict(
    graph_training='auto',
    data_preprocessor=dict(pad_buckets=[(736, 416), (800, 448), (864, 480), (960, 480)]))
default_hooks = dict(activation_memory=dict(type='ActivationMemoryHook', gib_per_item=5))
train_dataloader = dict(batch_size=4)
