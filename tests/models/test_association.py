"""Association: scores in closed form, assignment, creation, update and eviction of tracks."""
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.errors import UserError
from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.models.trackers import AssociationTracker
from mmdet.models.trackers.association_tracker import association_scores, resolve_claims, resolve_greedily
from mmdet.structures import legacy_iou


def found(embeddings, boxes=None, labels=None, scores=None) -> InstanceData:
    embeddings = np.array(embeddings, np.float32)
    n = len(embeddings)
    boxes = [[0, 0, 10, 10]] * n if boxes is None else boxes
    return InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(n, 4),
                        scores=torch.tensor(scores or [0.9] * n), labels=torch.tensor(labels or [0] * n).long(),
                        embeddings=torch.from_numpy(embeddings))


def test_iou_agrees_with_the_tensor_version():
    boxes = np.random.default_rng(0).uniform(0, 50, (2, 7, 4)).astype(np.float32)
    boxes[..., 2:] += boxes[..., :2]
    expected = BoxConvention(legacy=True).iou(*map(torch.from_numpy, boxes))
    np.testing.assert_allclose(legacy_iou(*boxes), expected, rtol=1e-6)


def test_scores_are_the_sum_of_their_terms():
    box = np.array([[0, 0, 9, 9]], np.float32)
    scores = association_scores(np.array([[3.0]]), np.array([0.5]), box, np.array([1]), box, np.array([2]))
    softmax = np.exp([0, 3.0]) / np.exp([0, 3.0]).sum()
    np.testing.assert_allclose(scores, [np.log(softmax) + np.log(0.5) + [10, 2]], rtol=1e-5)


@pytest.mark.parametrize(('matrix', 'winners', 'columns'), [
    ([[1, 0], [2, 0]], [0, 1], [0, 0]),  # both new
    ([[0, 1], [0, 2]], [1], [1]),  # one track: the better claimant
    ([[0, 2], [0, 2]], [0], [1]),  # a tie: the first
    ([[0, 2, 1], [0, 3, 5]], [0, 1], [1, 2]),  # a track each
])
def test_claims(matrix, winners, columns):
    assert resolve_claims(np.array(matrix, float)) == (winners, columns)


@pytest.mark.parametrize(('matrix', 'columns'), [
    ([[1, 0], [2, 0]], [0, 0]),  # both new
    ([[0, 1], [0, 2]], [0, 1]),  # one track: the better one has it, the other is new
    ([[0, 2], [0, 2]], [1, 0]),  # a tie: the first
    ([[0, 5, 4], [0, 6, 1]], [2, 1]),  # the loser takes its second choice
    ([[3, 5, 2], [0, 6, 1]], [0, 1]),  # unless that is worse than a new object
])
def test_greedy_assignment_drops_no_detection(matrix, columns):
    assert resolve_greedily(np.array(matrix, float)) == ([0, 1], columns)


def test_a_new_object_may_be_made_more_likely():
    """Cosine .8 and the same class, without overlap: the track of 8 > 6, but not of 8 < 9."""
    for new_logit, expected in ((6.0, 0), (9.0, 1)):
        tracker = AssociationTracker(new_logit=new_logit, temperature=0.1, assignment='greedy')
        state = tracker.new_state()
        tracker.track(found([[1, 0]], [[0, 0, 9, 9]]), state)
        assert tracker.track(found([[0.8, 0.6]], [[50, 50, 59, 59]]), state).instances_id.tolist() == [expected]


def test_objects_keep_their_ids_by_appearance():
    tracker = AssociationTracker()
    state = tracker.new_state()
    first = tracker.track(found([[1, 0], [0, 1]], [[0, 0, 9, 9], [50, 50, 59, 59]]), state)
    assert first.instances_id.tolist() == [0, 1]
    boxes = [[51, 50, 60, 59], [1, 0, 10, 9], [90, 90, 99, 99]]
    second = tracker.track(found([[0, 2], [3, 0], [-1, -1]], boxes), state)
    assert second.instances_id.tolist() == [1, 0, 2]


def test_an_empty_frame_changes_nothing_and_a_reset_everything():
    tracker = AssociationTracker()
    state = tracker.new_state()
    tracker.track(found([[1, 0]]), state)
    assert tracker.track(found(np.zeros((0, 2))), state).instances_id.tolist() == []
    assert tracker.track(found([[1, 0]]), state).instances_id.tolist() == [0]
    state.reset()
    assert tracker.track(found(np.zeros((0, 2))), state).instances_id.tolist() == []
    assert tracker.track(found([[0, 1]]), state).instances_id.tolist() == [0]


def test_a_match_updates_box_and_embedding_but_not_the_label():
    tracker = AssociationTracker(match_coeff=(1.0, 2.0, 0.0))
    state = tracker.new_state()
    tracker.track(found([[1, 0]], labels=[3]), state)
    tracker.track(found([[1, 1]], [[1, 1, 11, 11]], labels=[5], scores=[0.9]), state)
    assert state.labels.tolist() == [3]
    assert state.bboxes.tolist() == [[1, 1, 11, 11]]
    np.testing.assert_allclose(state.embeddings, [[0.5 ** 0.5, 0.5 ** 0.5]], rtol=1e-6)


@pytest.mark.parametrize(('similarity', 'expected'), [('dot', [2, 1]), ('cosine', [0.8, 0.6])])
def test_the_embedding_of_a_track_may_be_a_moving_average(similarity, expected):
    """The mean of (3, 0) and (1, 2) or, normalised, of (1, 0) and (0.28, 0.96), which is 0.8 times (0.8, 0.6)."""
    tracker = AssociationTracker(similarity=similarity, embedding_momentum=0.5)
    state = tracker.new_state()
    tracker.track(found([[3, 0]]), state)
    tracker.track(found([[1, 2] if similarity == 'dot' else [0.28, 0.96]]), state)
    np.testing.assert_allclose(state.embeddings, [expected], rtol=1e-6)


def test_boxes_are_predicted_from_the_mean_velocity_for_three_frames_at_most():
    tracker = AssociationTracker(motion=True)
    state = tracker.new_state()
    tracker.track(found([[1, 0]], [[0, 0, 10, 10]]), state)
    assert state.predicted_bboxes().tolist() == [[0, 0, 10, 10]]  # no velocity yet
    tracker.track(found([[1, 0]], [[4, 2, 14, 12]]), state)  # 4, 2 in a frame
    tracker.track(found(np.zeros((0, 2))), state)
    assert state.predicted_bboxes().tolist() == [[8, 4, 18, 14]]
    tracker.track(found([[1, 0]], [[8, 2, 18, 12]]), state)  # 4, 0 in two frames
    assert state.velocities.tolist() == [[3, 1]]  # the mean of (4, 2) and (2, 0)
    for frames in (1, 2, 3, 3):
        tracker.track(found(np.zeros((0, 2))), state)
        assert state.predicted_bboxes().tolist() == [[8 + 3 * frames, 2 + frames, 18 + 3 * frames, 12 + frames]]


@pytest.mark.parametrize('motion', [False, True])
def test_objects_that_pass_each_other_keep_their_ids_by_motion(motion):
    """Two objects of equal appearance meet and go on; without motion, each takes the track that is nearer."""
    tracker = AssociationTracker(match_coeff=(1.0, 20.0, 10.0), motion=motion, assignment='greedy')
    state = tracker.new_state()
    ids = [tracker.track(found([[1, 0], [1, 0]], [[x, 0, x + 40, 40], [60 - x, 0, 100 - x, 40]], scores=[0.9, 0.8]),
                         state).instances_id.tolist() for x in (0, 20, 40, 60)]
    assert ids == [[0, 1]] * 4 if motion else ids[2] == [1, 0]


def test_results_of_earlier_frames_do_not_change_with_the_track():
    """In the published code the row of a track's first frame was overwritten by its latest."""
    tracker = AssociationTracker()
    state = tracker.new_state()
    first = tracker.track(found([[1, 0]], scores=[0.9]), state)
    tracker.track(found([[1, 1]], [[1, 1, 11, 11]], scores=[0.5]), state)
    assert first.bboxes.tolist() == [[0, 0, 10, 10]] and first.scores.tolist() == pytest.approx([0.9])
    assert first.embeddings.tolist() == [[1, 0]]


def test_new_tracks_of_a_frame_are_not_candidates_in_it():
    tracker = AssociationTracker()
    state = tracker.new_state()
    assert tracker.track(found([[1, 0], [1, 0]]), state).instances_id.tolist() == [0, 1]


def test_the_least_recently_seen_is_evicted_and_ids_are_not_reused():
    tracker = AssociationTracker(max_tracks=2)
    state = tracker.new_state()
    far = [[[100 * i, 0, 100 * i + 9, 9]] for i in range(5)]
    for i, embedding in enumerate(np.eye(4)):  # new classes: nothing matches
        assert tracker.track(found([embedding], far[i], labels=[i]), state).instances_id.tolist() == [i]
    assert state.ids.tolist() == [2, 3]
    assert tracker.track(found([np.eye(4)[0]], far[0], labels=[0]), state).instances_id.tolist() == [4]


def test_dropped_detections_are_removed_from_all_fields():
    tracker = AssociationTracker()
    state = tracker.new_state()
    tracker.track(found([[1, 0]]), state)
    both = found([[1, 0], [1, 0]], scores=[0.9, 0.8])
    both.masks = ['a', 'b']
    kept = tracker.track(both, state)
    assert kept.masks == ['a']
    assert len(kept) == 1


@pytest.mark.parametrize('assignment', ['claims', 'greedy'])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_detections_that_are_not_finite_are_dropped_and_spoil_no_later_frame(assignment, value):
    tracker = AssociationTracker(assignment=assignment, embedding_momentum=0.5, motion=True)
    state = tracker.new_state()
    whole, boxes = [[1, 0], [0, 1]], [[0, 0, 10, 10], [20, 20, 30, 30]]
    frames = [(whole, boxes), ([[value, 0], [0, 1]], boxes), (whole, [[0, 0, value, 10], boxes[1]]), (whole, boxes)]
    assert [tracker.track(found(*frame), state).instances_id.tolist() for frame in frames] == [[0, 1], [1], [1], [0, 1]]
    assert np.isfinite(state.embeddings).all() and np.isfinite(state.bboxes).all()


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(similarity='l2'), "similarity='l2' is unknown; use 'cosine' or 'dot'"),
    (dict(assignment='best'), "assignment='best' is unknown; use one of claims, greedy"),
    (dict(match_coeff=(1.0, 2.0)), 'match_coeff .* must be 3 numbers, not'),
    (dict(match_coeff='abc'), 'match_coeff .* must be 3 numbers, not'),
    (dict(match_coeff=('1', '2', '3')), "match_coeff .* must be a number from 0 to 1000000, not '1'"),
    (dict(match_coeff=(1, float('inf'), 1)), 'match_coeff .* must be a number from 0 to 1000000, not inf'),
    (dict(max_tracks=0), 'max_tracks must be an integer of at least 1, not 0'),
    (dict(max_tracks=2.5), 'max_tracks must be an integer of at least 1, not 2.5'),
    (dict(temperature=0), 'temperature must be a number above 0, not 0'),
    (dict(new_logit='high'), "new_logit must be a number from -1000000 to 1000000, not 'high'"),
    (dict(embedding_momentum=-0.1), 'embedding_momentum must be a number from 0 to 1, not -0.1'),
    (dict(embedding_momentum=2), 'embedding_momentum must be a number from 0 to 1, not 2'),
    (dict(motion='maybe'), "motion must be True or False, not 'maybe'")])
def test_invalid_arguments_are_one_line(arguments, message):
    with pytest.raises(UserError, match=f'AssociationTracker {message}'):
        AssociationTracker(**arguments)
