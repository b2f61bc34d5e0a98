# memcnp_toy_textured.py with the recipe of docs/results.md: convolutional stem, twice the learning rate, more positive
# locations, a memory with a sharper read and units of each level, initialised by k-means, which do not decay. The same
# 2,400 steps of 8 pairs, too few for averaged weights.
_base_ = './memcnp_toy_textured.py'
model = dict(
    backbone=dict(stem='conv'),
    bbox_head=dict(
        assigner=dict(top_k=9),
        memory=dict(read_temperature=0.1, init_units='kmeans', decay='counted', per_level=True)))
optim_wrapper = dict(optimizer=dict(lr=8e-4))
