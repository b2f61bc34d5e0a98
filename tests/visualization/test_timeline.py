"""The timeline: a row per track, a bar per uninterrupted run, colours and texts of the drawn video, escaped names."""
import re

from mmdet.visualization.colors import color_of
from mmdet.visualization.timeline import MOST_ROWS, Timeline

BAR = re.compile(r'<i style="left:([\d.]+)%;width:([\d.]+)%;background:rgb\((\d+) (\d+) (\d+)\)" title="([^"]*)">')


def test_runs_of_visible_frames_become_bars():
    timeline = Timeline(['seal', 'dog'])
    for frame, ids in enumerate([[4], [4, 9], [9], [4]]):
        timeline.add(ids, [1] * len(ids), [0.5 + 0.1 * frame] * len(ids), frame / 10)
    html = timeline.html()
    bars = BAR.findall(html)
    assert [(float(left), float(width)) for left, width, *_ in bars] == [(0, 50), (75, 25), (25, 50)]
    assert [title for *_, title in bars] == ['0.0 s to 0.1 s', '0.3 s to 0.3 s', '0.1 s to 0.2 s']
    assert [tuple(map(int, bar[2:5])) for bar in bars] == [color_of(key)[::-1] for key in (4, 4, 9)]
    texts = re.findall(r'<span>([^<]+)</span>', html)
    # mean scores: (0.5 + 0.6 + 0.8) / 3, (0.6 + 0.7) / 2
    assert texts == ['#4 dog 0.63', '3 frames', '#9 dog 0.65', '2 frames', '0.0 s', '0.3 s'] and len(timeline) == 2


def test_the_most_frequent_class_names_a_track():
    timeline = Timeline(['seal', 'dog'])
    for label in (0, 1, 1):
        timeline.add([0], [label], [0.5])
    assert '#0 dog' in timeline.html() and 'frame 0 to frame 2' in timeline.html()


def test_names_are_escaped():
    timeline = Timeline(['<img src=x>'])
    timeline.add([0], [0], [0.5])
    assert '<img' not in timeline.html() and '&lt;img src=x&gt;' in timeline.html()


def test_of_many_tracks_the_longest_are_shown():
    timeline = Timeline()
    timeline.add(range(MOST_ROWS + 5), [0] * (MOST_ROWS + 5), [0.5] * (MOST_ROWS + 5))
    timeline.add([MOST_ROWS + 4], [0], [0.5])
    html = timeline.html()
    assert html.count('class="row"') == MOST_ROWS and f'#{MOST_ROWS + 4} class 0' in html
    assert f'{MOST_ROWS + 5} tracks; the {MOST_ROWS} that are visible longest are shown.' in html


def test_without_objects():
    timeline = Timeline()
    timeline.add([], [], [])
    assert timeline.html() == '<p>No object was found.</p>'


def test_times_are_those_of_the_frames_at_a_variable_rate():
    timeline = Timeline(['seal'])
    for time, ids in ((0.5, [0]), (0.7, [0]), (9.0, []), (9.1, [0])):
        timeline.add(ids, [0] * len(ids), [0.5] * len(ids), time)
    html = timeline.html()
    assert 'title="0.5 s to 0.7 s"' in html and 'title="9.1 s to 9.1 s"' in html
    assert '<span>0.5 s</span><span>9.1 s</span>' in html
