# The default model with the recipe that helps on toy videos (docs/results.md), as far as it fits a pre-trained ViT:
# augmentation, more positive locations, a sharper read of the memory, AdamW with layer-wise rates, averaged weights.
# Not measured on YouTube-VIS. 4 pairs on each of 4 GPUs.
_base_ = [
    './_base_/models/memcnp_vit.py', './_base_/datasets/yvis_improved.py', './_base_/schedules/adamw_1x_layer_decay.py',
    './_base_/schedules/averaged_weights.py', './_base_/default_runtime.py'
]
model = dict(
    graph_training='auto',
    bbox_head=dict(assigner=dict(top_k=9), memory=dict(read_temperature=0.1)))
default_hooks = dict(activation_memory=dict(type='ActivationMemoryHook', gib_per_item=5))
train_dataloader = dict(batch_size=4)
