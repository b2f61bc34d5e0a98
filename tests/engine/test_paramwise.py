"""Rates and decays of single parameters: options that mmengine would ignore are an error or a warning of one line."""
import re

import pytest
from torch import nn

from mmdet.engine.paramwise import check_paramwise
from mmdet.errors import UserError

MODEL = nn.ModuleDict(dict(backbone=nn.Linear(2, 2), head=nn.Linear(2, 2)))


@pytest.mark.parametrize('options', [
    None, {}, dict(bias_lr_mult=2, norm_decay_mult=0.0, bypass_duplicate=True),
    dict(custom_keys={'backbone': dict(lr_mult=0.1), 'head.bias': dict(decay_mult=0)})])
def test_valid_options(options):
    assert check_paramwise(dict(paramwise_cfg=options), MODEL) is None


@pytest.mark.parametrize(('options', 'said'), [
    (dict(layer_decay_rate=0.7), "layer_decay_rate needs optim_wrapper.constructor='LayerDecayConstructor'"),
    (3, 'paramwise_cfg must be a dict with some of bias_lr_mult'),
    (dict(bias_lr=2), "has no key 'bias_lr'; use bias_lr_mult"),
    (dict(bias_lr_mult='fast'), "bias_lr_mult must be a number of at least 0, not 'fast'"),
    (dict(custom_keys=['backbone']), 'custom_keys must be a dict'),
    (dict(custom_keys=dict(backbone=0.1)), 'custom_keys.backbone must be a dict, not 0.1'),
    (dict(custom_keys=dict(backbone=dict(lr_mult=-1))), 'backbone.lr_mult must be a number of at least 0, not -1')])
def test_wrong_options(options, said):
    with pytest.raises(UserError, match=re.escape(said)):
        check_paramwise(dict(paramwise_cfg=options), MODEL)


def test_a_key_that_selects_no_parameter_is_named():
    warning = check_paramwise(dict(paramwise_cfg=dict(custom_keys=dict(bakbone=dict(lr_mult=0.1)))), MODEL)
    assert 'no parameter has bakbone in its name; names begin with backbone.bias, backbone.weight' in warning


def test_other_constructors_have_options_of_their_own():
    wrapper = dict(constructor='LayerDecayConstructor', paramwise_cfg=dict(layer_decay_rate=0.7))
    assert check_paramwise(wrapper, MODEL) is None
