"""VidEoMT against transformers and the authors' network, on small random weights: clips, states, losses, gradients."""
import numpy as np
import pytest
import scipy.optimize
import torch
from pycocotools import mask as coco_mask
from timm.layers import resample_abs_pos_embed

from mmdet.models.detectors.videomt_weights import to_transformers
from mmdet.models.task_modules.hungarian import ClipTargets
from mmdet.structures import DetDataSample
from tests.helpers.golden import clip_of, golden_npz
from tests.helpers.videomt import GoldenDraws, golden_videomt, golden_videomt_weights, normal
from tools.analysis_tools.measures.synthetic import synthetic_clips

TOLERANCE = dict(atol=1e-4, rtol=1e-5)


@pytest.fixture(scope='module')
def clips():
    return golden_npz('videomt_small_clip.npz')


@pytest.fixture(scope='module')
def losses():
    return golden_npz('videomt_loss.npz')


@pytest.fixture(scope='module')
def model():
    return golden_videomt().eval()


def close(value: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(value.detach().numpy(), expected, **TOLERANCE)


@torch.no_grad()
def test_a_square_clip_at_once(model, clips):
    outputs = model(normal(1, (1, 4, 3, 128, 128)))
    close(outputs.class_logits[0], clips['sq_class'])
    close(outputs.mask_logits[0], clips['sq_mask'])
    last = torch.from_numpy(clips['sq_propagated'][-1])
    close(outputs.queries[0], (model.head.query_updater(last) + model.head.query.weight).numpy())


@torch.no_grad()
def test_all_tokens_of_a_square_clip(model, clips):
    tokens, _ = model._tokens(normal(1, (1, 4, 3, 128, 128)), None, auxiliary=False)
    close(tokens[0][0, :, :20], clips['sq_propagated'])
    close(model.backbone.norm(tokens[0])[0, ..., ::8], clips['sq_last_hidden'])


@torch.no_grad()
def test_a_frame_without_the_frames_before_it(model, clips):
    close(model(normal(1, (1, 4, 3, 128, 128))[:, 2:3]).class_logits[0], clips['sq_fresh2_class'])


@torch.no_grad()
@pytest.mark.parametrize('lengths', [(4,), (1, 1, 1, 1), (3, 1)], ids=['clip', 'frame by frame', 'uneven clips'])
def test_a_wide_clip_streamed(model, clips, lengths):
    frames, queries, done = normal(2, (4, 3, 96, 160)), None, 0
    for length in lengths:
        outputs = model.run_clips(frames[None, done:done + length], queries)
        close(outputs.class_logits[0], clips['ns_class'][done:done + length])
        close(outputs.mask_logits[0], clips['ns_mask'][done:done + length])
        done, queries = done + length, outputs.queries
        close(queries[0], clips['ns_next_queries'][done - 1])


@torch.no_grad()
def test_clips_of_a_batch_do_not_mix(model):
    frames = torch.stack([normal(2, (4, 3, 96, 160)), normal(3, (4, 3, 96, 160))])
    both = model(frames)
    for clip in range(2):
        for value, alone in zip(both, model(frames[clip:clip + 1])):
            torch.testing.assert_close(value[clip], alone[0], **TOLERANCE)


def unpacked(bits: np.ndarray, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.unpackbits(bits)[:np.prod(shape)].reshape(shape)).float()


def first_frames(ids: np.ndarray) -> tuple[int, ...]:
    return tuple((ids != -1).argmax(1).tolist())


def recorded_matches(monkeypatch, model) -> tuple[list, list]:
    """What the matcher returns and the cost matrices that the solver gets, call by call."""
    matches, costs = [], []
    match, solve = model.criterion.matcher.match, scipy.optimize.linear_sum_assignment
    monkeypatch.setattr(model.criterion.matcher, 'match', lambda *args: matches.append(match(*args)) or matches[-1])
    monkeypatch.setattr(scipy.optimize, 'linear_sum_assignment',
                        lambda cost: costs.append(cost.copy()) or solve(cost))
    return matches, costs


def unweighted(model, weighted: dict, name: str) -> float:
    return float(weighted[name].detach()) / model.criterion.weights[name.rstrip('0123456789_')]


def test_criterion(losses, monkeypatch):
    model = golden_videomt(criterion=dict(type='QueryMaskCriterion', num_points=64, rand=GoldenDraws(60)))
    targets = [ClipTargets(torch.from_numpy(losses[f'crit_labels_{clip}']),
                           unpacked(losses[f'crit_masks_{clip}'], number, 3, 64, 96),
                           first_frames(losses[f'crit_ids_{clip}'])) for clip, number in enumerate((3, 2))]
    predictions = [(normal(40 + k, (6, 12, 6)).unflatten(0, (2, 3)),
                    3 * normal(50 + k, (6, 12, 1, 16, 24)).squeeze(2).unflatten(0, (2, 3))) for k in range(3)]
    matches, costs = recorded_matches(monkeypatch, model)
    found = model.criterion(predictions, targets)
    assert model.criterion.rand.shapes == [tuple(row) for row in losses['crit_draws'].tolist()]
    for number, pairs in enumerate(matches):
        np.testing.assert_array_equal(torch.stack(pairs), losses[f'crit_match_{number // 2}_{number % 2}'])
    assert len(costs) == 12
    for number, cost in enumerate(costs):
        np.testing.assert_allclose(cost, losses[f'crit_cost_{number}'], **TOLERANCE)
    assert sorted(found) == sorted(losses['crit_names'].tolist())
    for name, value in zip(losses['crit_names'], losses['crit_values']):
        assert unweighted(model, found, name) == pytest.approx(value, abs=1e-4, rel=1e-5)


@pytest.fixture(scope='module')
def step(losses):
    """A model after a backward pass, its losses and its draws."""
    model = golden_videomt(criterion=dict(type='QueryMaskCriterion', num_points=128, rand=GoldenDraws(80)))
    targets = [ClipTargets(torch.from_numpy(losses['step_labels']), unpacked(losses['step_masks'], 3, 4, 128, 128),
                           first_frames(losses['step_ids']))]
    matches, match = [], model.criterion.matcher.match
    model.criterion.matcher.match = lambda *args: matches.append(match(*args)) or matches[-1]
    predictions = model.training_predictions(normal(1, (1, 4, 3, 128, 128)))
    found = model.criterion(predictions, targets)
    sum(found.values()).backward()
    return model, predictions, found, matches


def test_auxiliary_predictions_are_read_without_the_norm(step, losses):
    for index, (classes, masks) in enumerate(step[1][1:]):
        close(classes[0], losses[f'step_aux_class_{index}'])
        close(masks[0, ..., ::4, ::4], losses[f'step_aux_mask_{index}'])


def test_losses_of_a_training_step(step, losses):
    model, _, found, matches = step
    draws = [tuple(row) for row in losses['step_draws'].tolist()]
    assert model.criterion.rand.shapes == draws[:len(model.criterion.rand.shapes)]
    for index, pairs in enumerate(matches):
        np.testing.assert_array_equal(torch.stack(pairs), losses[f'step_match_{index}'])
    expected = dict(zip(losses['step_names'].tolist(), losses['step_values'].tolist()))
    assert sorted(found) == sorted(name for name in expected if not name.endswith('_2'))
    for name in found:
        assert unweighted(model, found, name) == pytest.approx(expected[name], abs=1e-4, rel=1e-5)
    assert float(sum(found.values()).detach()) == pytest.approx(float(losses['step_total']), abs=1e-4, rel=1e-5)


def test_gradients_pass_through_the_queries_of_all_frames(step, losses):
    model = step[0]
    gradients = to_transformers({name: parameter.grad for name, parameter in model.named_parameters()}, 3)
    for name, norm in zip(losses['step_grad_names'].tolist(), losses['step_grad_norms'].tolist()):
        if name.endswith('k_proj.bias'):
            continue  # zero but for rounding
        assert float(gradients[name].norm()) == pytest.approx(norm, abs=1e-4, rel=1e-5), name
        if f'step_grad:{name}' in losses:
            close(gradients[name].flatten()[:256], losses[f'step_grad:{name}'])


def test_the_golden_weights_are_what_transformers_has(model):
    own = to_transformers(model.state_dict(), query_blocks=3)
    expected = golden_videomt_weights()
    assert set(own) == set(expected)
    for name in set(own) - {'attn_mask_probs', 'criterion.empty_weight', 'embeddings.mask_token'}:
        torch.testing.assert_close(own[name], expected[name], atol=0, rtol=0)


def frames_of(length: int, **metainfo) -> list[DetDataSample]:
    return [DetDataSample(metainfo=dict(frame_id=index, video_id=7, video_length=length) | metainfo)
            for index in range(length)]


@pytest.mark.parametrize('clip_len', [4, 1], ids=['clip', 'frame by frame'])
def test_tracks_of_a_video(clips, clip_len):
    model = golden_videomt(results=dict(type='QueryTrackResults', max_per_video=6)).eval()
    images, stream = normal(2, (1, 4, 3, 96, 160)), model.new_stream()
    frames = frames_of(4, img_shape=(90, 150), ori_shape=(60, 100))
    for start in range(0, 4, clip_len):
        part = slice(start, start + clip_len)
        model(images[:, part], [clip_of(frames[part])], mode='predict', streams=[stream])
    assert not any('video_tracks' in frame for frame in frames[:-1])
    tracks = frames[-1].video_tracks
    assert tracks.instances_id.tolist() == clips['ns_vis_queries'].tolist()
    assert tracks.labels.tolist() == clips['ns_vis_labels'].tolist()
    close(tracks.scores, clips['ns_vis_scores'])
    for rank, query in enumerate(tracks.instances_id.tolist()):
        for time, frame in enumerate(frames):
            row = frame.video_candidates.instances_id.tolist().index(query)
            np.testing.assert_array_equal(coco_mask.decode(frame.video_candidates.masks[row]),
                                          unpacked(clips['ns_vis_masks'], 6, 4, 60, 100)[rank, time])


def test_objects_of_single_frames(clips):
    model = golden_videomt(results=dict(type='QueryTrackResults', score_thr=float(clips['sq_inst_threshold']),
                                        direct_masks=True)).eval()
    frames = frames_of(4, img_shape=(128, 128), ori_shape=(90, 120), source_frame=0)
    model(normal(1, (1, 4, 3, 128, 128)), [clip_of(frames)], mode='predict')
    for time, frame in enumerate(frames):
        found = frame.pred_track_instances
        found = found[found.instances_id.argsort()]
        rows = clips['sq_inst_rows'][clips['sq_inst_rows'][:, 0] == time]
        assert found.labels.tolist() == rows[:, 2].tolist()
        close(found.scores, rows[:, 3])
        painted = np.full((90, 120), -1)
        for number, mask in enumerate(found.masks):
            painted[coco_mask.decode(mask) > 0] = number
        np.testing.assert_array_equal(painted, clips['sq_inst_map'][time])


@pytest.mark.parametrize('grid', [(8, 8), (6, 10), (3, 17), (14, 5)])
def test_positions_are_resized_as_timm_does(model, grid):
    table = model.backbone.vit.pos_embed
    torch.testing.assert_close(model.backbone.positions(grid), resample_abs_pos_embed(table, grid, num_prefix_tokens=0),
                               atol=1e-6, rtol=1e-5)


def test_clips_of_one_frame_have_a_gradient_for_every_parameter():
    model = golden_videomt(criterion=dict(type='QueryMaskCriterion', num_points=64))
    inputs, samples = synthetic_clips(2, 1, (64, 96), num_classes=5)
    sum(model(inputs, samples, mode='loss').values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not model.head.query_updater.weight.grad.any()


def test_mixed_precision():
    """Training gives finite gradients to all parameters; weights stored halved give what autocast gives."""
    model = golden_videomt(criterion=dict(type='QueryMaskCriterion', num_points=64))
    inputs, samples = synthetic_clips(2, 3, (64, 96), num_classes=5)
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(inputs, samples, mode='loss')
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    model.eval()
    outputs = []
    for _ in range(2):
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
            outputs.append(model(inputs))
        model.halve_weights(torch.bfloat16)
    for value, expected in zip(*outputs):
        torch.testing.assert_close(value, expected)
