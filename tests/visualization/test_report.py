"""The HTML report: content, escaping of names, and layout in a real browser."""
import base64
import inspect
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import CHROMIUM, DRIVER, Browser
from PIL import Image

import test_video
from mmdet import apis
from mmdet.apis import write_report
from mmdet.errors import UserError
from mmdet.evaluation.frame_results import FrameResult
from mmdet.evaluation.functional import read_ground_truth
from mmdet.evaluation.result_files import write_results
from mmdet.visualization.report import Bar, Card, Curve, ErrorSection, GainBar, Page, Score, line_chart, render_page
from tools import video_demo
from tools.analysis_tools import report

EVIL = '<script>document.title="owned"</script>'
EVIL_ATTRIBUTE = '"><img src="http://example.invalid/x.png" onerror="document.title=\'owned\'">'


@pytest.fixture(scope='module')
def data(toy_root, tmp_path_factory):
    """Folder with annotations whose names are HTML, a result that finds the first video's objects only, and a log."""
    folder = tmp_path_factory.mktemp('report')
    truth = json.loads((toy_root / 'annotations/instances_valid.json').read_text())
    truth['categories'][0]['name'], truth['categories'][1]['name'] = EVIL, EVIL_ATTRIBUTE
    for number, video in enumerate(truth['videos']):
        source = toy_root / 'valid_images' / video['file_names'][0].split('/')[0]
        name = ('good', '<i>poor & "bad"')[number]
        shutil.copytree(source, folder / 'images' / name)
        video['file_names'] = [f'{name}/{file.split("/")[1]}' for file in video['file_names']]
    (folder / 'truth.json').write_text(json.dumps(truth))
    found = [dict(video_id=entry['video_id'], category_id=entry['category_id'], score=0.9,
                  segmentations=entry['segmentations']) for entry in truth['annotations'] if entry['video_id'] == 1]
    (folder / 'result.json').write_text(json.dumps(found))
    log = folder / 'work/20260101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(''.join(json.dumps(dict(loss=2 / step, loss_mask=1 / step, lr=1e-4, step=step)) + '\n'
                           for step in range(1, 1000)) + json.dumps(dict(segm_AP=0.2, segm_AP50=0.5, step=999)) + '\n')
    return folder


@pytest.fixture(scope='module')
def page(data):
    return write_report(data / 'truth.json', data / 'result.json', data / 'out', images=data / 'images',
                        log=data / 'work', title=f'Toy {EVIL}')


class Tags(HTMLParser):
    """All tags with their attributes, and the text outside of style and script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.inside = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = [tag] if tag in ('style', 'script') else self.inside

    def handle_endtag(self, tag):
        self.inside = [] if [tag] == self.inside else self.inside

    def handle_data(self, data):
        if not self.inside:
            self.words.append(data)


def test_names_are_text_not_html(page):
    text = page.read_text()
    parsed = Tags(text)
    assert sum(tag == 'script' for tag, _ in parsed.tags) == 1 and not any(tag == 'i' for tag, _ in parsed.tags)
    assert not any(name.startswith('on') for _, attributes in parsed.tags for name in attributes)
    shown = ''.join(parsed.words)
    assert EVIL in shown and EVIL_ATTRIBUTE in shown and '<i>poor & "bad"' in shown


def test_nothing_is_fetched(page):
    parsed = Tags(page.read_text())
    addresses = [attributes[name] for _, attributes in parsed.tags for name in ('src', 'href', 'srcset')
                 if name in attributes]
    assert addresses and all(address.startswith('data:') for address in addresses)
    policy = next(attributes['content'] for tag, attributes in parsed.tags if attributes.get('http-equiv'))
    assert policy.startswith("default-src 'none'") and 'unsafe-inline' not in policy.split('script-src')[1]


def test_scores_and_sections(page):
    text = page.read_text()
    shown = ' '.join(' '.join(Tags(text).words).split())
    for heading in ('Scores', 'AP per category', 'AP by size and occlusion', 'Precision and recall',
                    'Where AP is lost', 'Training', 'Videos'):
        assert f'<h2>{heading}</h2>' in text
    assert re.search(r'AP50 IoU \.50 \d', shown) and 'have no occlusion levels' in shown
    assert text.index('data-name="good"') < text.index('data-name="&lt;i&gt;poor')  # best first
    assert 'AP 100.0' in shown and 'AP 0.0' in shown


def test_where_ap_is_lost(page, data, tmp_path):
    """The second video's objects are missed; then one of the first video's has a wrong class."""
    missed = gains(page)['missed tracks']
    assert missed[0] > 0 and {name: value for name, (value, _) in gains(page).items() if value} == {
        'missed tracks': missed[0]}
    found = json.loads((data / 'result.json').read_text())
    other = next(entry['category_id'] for entry in found if entry['category_id'] != found[0]['category_id'])
    found[0]['category_id'] = other
    (tmp_path / 'wrong.json').write_text(json.dumps(found))
    wrong = write_report(data / 'truth.json', tmp_path / 'wrong.json', tmp_path, gallery=0)
    assert gains(wrong)['class'][0] > 0 and 'Track scores: calibration error' in wrong.read_text()


def gains(page):
    """Gain in percent and note by the name of the error."""
    section = page.read_text().partition('id="errors"')[2].partition('</section>')[0]
    rows = re.findall(r'<th scope="row">([^<]*) <small>([^<]*)</small>.*?class="number">([-+.0-9]+)<', section,
                      re.DOTALL)
    assert len(rows) == 9
    return {name: (float(value), note) for name, note, value in rows}


def test_uncertainties_of_a_pickled_result(data, tmp_path):
    """Exact boxes whose uncertainty is 0.1: all errors lie in the central intervals."""
    truth = read_ground_truth(data / 'truth.json')
    rows = []
    for video in truth.videos.values():
        objects = [track for track in truth.tracks if track.video_id == video.id]
        frames = []
        for index in range(video.length):
            seen = [track for track in objects if track.mask_areas[index]]
            boxes = np.array([track.mask_boxes()[index] for track in seen])
            columns = [boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - 1, np.full((len(seen), 6), .1)]
            frames.append(FrameResult([track.id for track in seen], [0] * len(seen),
                                      np.concatenate(columns, axis=1).astype(np.float32),
                                      [track.rles[index]['counts'] for track in seen]))
        rows.append((video, frames, []))
    write_results(str(tmp_path / 'out.pkl'), rows)
    text = write_report(data / 'truth.json', tmp_path / 'out.pkl', tmp_path, gallery=0).read_text()
    boxes = sum(len(frame.ids) for _, frames, _ in rows for frame in frames)
    assert 'Box uncertainties: error / σ 0.00<' in text and f'{boxes} boxes' in text


def test_a_gain_below_zero_has_no_bar():
    section = ErrorSection([GainBar('worse', -.1, -.2, -.05), GainBar('better', .2, .1, .4)], '', [])
    text = render_page(Page('t', 's', [], [], [], line_chart([Curve('a', np.zeros((2, 2)))], 'x', 'y'), errors=section))
    assert '-10.0<small>-20.0 to -5.0' in text and '+20.0<small>+10.0 to +40.0' in text
    assert re.findall(r'<div style="width:([^"]*)"', text) == ['0.0%', '50.0%']
    assert re.findall(r'<span style="left:([^"]*)"', text) == ['25.0%;width:75.0%']


def test_gallery_gifs_show_annotation_and_prediction(page):
    cards = [attributes for tag, attributes in Tags(page.read_text()).tags if tag == 'img']
    assert len(cards) == 2
    for number, card in enumerate(cards):
        gif = Image.open(io.BytesIO(base64.b64decode(card['src'].split(',')[1])))
        assert gif.n_frames == 4 and gif.size == (int(card['width']), int(card['height'])) == (324, 96)
        frame = np.asarray(gif.convert('RGB')).astype(int)
        difference = np.abs(frame[:, :160] - frame[:, 164:]).mean()
        assert difference < 2 if number == 0 else difference > 2  # the good one's halves look alike


def test_without_images_and_log(data, tmp_path):
    text = write_report(data / 'truth.json', data / 'result.json', tmp_path, gallery=1).read_text()
    assert '<h2>Training</h2>' not in text and text.count('data:image/gif') == 1
    assert 'Of 2 videos these are the 1 best and the 0 worst.' in text


def test_missing_images_are_counted(data, tmp_path):
    shutil.copytree(data / 'images', tmp_path / 'images')
    next((tmp_path / 'images/good').iterdir()).unlink()
    text = write_report(data / 'truth.json', data / 'result.json', tmp_path, images=tmp_path / 'images').read_text()
    assert '1 of the images are missing or damaged' in text


@pytest.mark.parametrize(('arguments', 'words'), [
    (dict(images='nowhere'), 'nowhere: no such image folder'), (dict(log='.'), 'holds no training log'),
    (dict(thresh=2), '--thresh 2'), (dict(gallery=-1), '--gallery -1')])
def test_faults(data, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        write_report(data / 'truth.json', data / 'result.json', tmp_path, **arguments)


@pytest.mark.parametrize('crowds', [False, True])
def test_annotations_without_ground_truth(data, tmp_path, crowds):
    truth = json.loads((data / 'truth.json').read_text())
    left = [entry | dict(iscrowd=1) for entry in truth['annotations'] if crowds]
    (tmp_path / 'truth.json').write_text(json.dumps(truth | dict(annotations=left)))
    with pytest.raises(UserError, match='has no annotations'):
        write_report(tmp_path / 'truth.json', data / 'result.json', tmp_path)


def test_command_line(data, tmp_path, capsys):
    from tools.analysis_tools.report import main
    out = tmp_path / 'a'
    assert main([str(data / 'result.json'), str(data / 'truth.json'), '--out', str(out), '--gallery', '0']) == 0
    assert capsys.readouterr().out.strip() == str(out / 'index.html') and (out / 'index.html').is_file()


def test_chart_places_points():
    """A line from corner to corner of the axes, and a gap where a value is missing."""
    svg = line_chart([Curve('a & b', np.array([[0, 0], [0.5, np.nan], [1, 1]]))], 'x', 'y', ylim=(0, 1))
    path = re.search(r'class="line c0 d0" d="([^"]*)"', svg)[1]
    points = [tuple(map(float, point)) for point in re.findall(r'M([\d.]+) ([\d.]+)', path)]
    assert points == [(64, 248), (418, 10)] and 'L' not in path
    assert 'a &amp; b' in svg


def test_logarithmic_axis_encloses_the_values():
    svg = line_chart([Curve('loss', np.array([[0, 9.4], [10, 0.031]]))], 'step', '', log=True)
    ticks = [float(text) for text in re.findall(r'tick y"[^>]*>([^<]*)<', svg)]
    assert ticks == [0.01, 0.1, 1, 10]


def test_sections_without_content_are_left_out():
    text = render_page(Page('t', 's', [[Score('AP', 'all', -1)]], [Bar('cat', -1)], [], line_chart(
        [Curve('a', np.zeros((2, 2)))], 'x', 'y')))
    assert not any(f'id="{name}"' in text for name in ('training', 'gallery', 'errors')) and '–' in text


def test_card_source_is_a_gif():
    assert Card('n', 0.5, '', b'GIF89a', 1, 1).source == 'data:image/gif;base64,R0lGODlh'


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason='needs the Debian packages chromium and chromium-driver')
@pytest.mark.xdist_group('browser')
def test_in_a_browser(page, tmp_path):
    """Desktop and phone: no overflow, pictures are shown, sorting works, no console messages, no network."""
    with Browser(tmp_path / 'profile') as browser:
        for width in (1280, 390):
            browser.open(page.as_uri(), width)
            assert browser.run('return innerWidth') == width
            assert browser.run('return document.documentElement.scrollWidth') <= width
            assert browser.run('return document.title').startswith('Toy <script>')
            assert browser.run('return [...document.images].every(i => i.complete && i.naturalWidth > 0)')
            outside = browser.run(
                'return [...document.querySelectorAll("body *")].filter(e => {const r = e.getBoundingClientRect();'
                'return r.width && (r.right > innerWidth + 1 || r.left < -1)}).length')
            assert outside == 0
            names = 'return [...document.querySelectorAll(".cards figure")].map(f => f.dataset.name.slice(0, 4))'
            assert browser.run(names) == ['good', '<i>p']
            browser.click('[data-order=worst]')
            assert browser.run(names) == ['<i>p', 'good']
            picture = np.asarray(Image.open(browser.screenshot(tmp_path / f'{width}.png')).convert('RGB'))
            assert picture.shape[1] >= width - 20 and picture.shape[0] > 900
            assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500  # pictures and text, not an empty page
        columns = 'return getComputedStyle(document.querySelector(".cards")).gridTemplateColumns.split(" ").length'
        assert browser.run(columns) == 1
        assert browser.complaints() == []
        assert set(browser.requests()) == {page.as_uri()}


def test_every_command_draws_from_the_same_score():
    """The same result gives the same gallery, by whichever command."""
    parsers = [script.build_parser() for script in (report, test_video, video_demo)]
    functions = (write_report, apis.test, apis.VideoInferencer.__call__)
    assert [parser.get_default('thresh') for parser in parsers] == [0.5] * 3
    assert [inspect.signature(function).parameters['thresh'].default for function in functions] == [0.5] * 3
