"""The HTML report: content, escaping of names, and layout in a real browser."""
import base64
import inspect
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import test_video
from mmdet import apis
from mmdet.apis import write_report
from mmdet.errors import UserError
from mmdet.evaluation.frame_results import FrameResult
from mmdet.evaluation.functional import read_ground_truth
from mmdet.evaluation.result_files import write_results
from mmdet.visualization.labels import label_texts
from mmdet.visualization.report import (
    Bar,
    Card,
    Curve,
    ErrorSection,
    GainBar,
    Page,
    Score,
    charts,
    line_chart,
    render_page,
)
from mmdet.visualization.webp import animated_webp
from tests.helpers.browser import CHROMIUM, DRIVER, Browser
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
    log.write_text(''.join(json.dumps(dict(loss=2 / step, loss_mask=1 / step, lr=1.25e-4 / step, step=250 * step))
                           + '\n' for step in range(1, 1000))
                   + json.dumps(dict(segm_AP=0.2, segm_AP50=0.5, segm_AP75=-1.0, step=1)) + '\n')
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


def test_a_report_without_classes(data, tmp_path):
    """The first video's objects with wrong classes: no error of classes is left, and one category."""
    found = json.loads((data / 'result.json').read_text())
    keys = [category['id'] for category in json.loads((data / 'truth.json').read_text())['categories']]
    for entry in found:
        entry['category_id'] = keys[(keys.index(entry['category_id']) + 1) % len(keys)]
    (tmp_path / 'wrong.json').write_text(json.dumps(found))
    files = [str(tmp_path / 'wrong.json'), str(data / 'truth.json'), '--out', str(tmp_path)]
    assert report.main([*files, '--gallery', '0', '--class-agnostic']) == 0
    assert gains(tmp_path / 'index.html')['class'][0] == 0 and '1 category' in (tmp_path / 'index.html').read_text()


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


def test_gallery_pictures_show_annotation_and_prediction(page):
    cards = [attributes for tag, attributes in Tags(page.read_text()).tags
             if tag == 'img' and attributes.get('src', '').startswith('data:image/webp')]
    assert len(cards) == 2
    for number, card in enumerate(cards):
        picture = Image.open(io.BytesIO(base64.b64decode(card['src'].split(',')[1])))
        assert picture.n_frames == 4 and picture.size == (int(card['width']), int(card['height'])) == (644, 192)
        frame = np.asarray(picture.convert('RGB')).astype(int)
        difference = np.abs(frame[:, :320] - frame[:, 324:]).mean()
        assert difference < 4 if number == 0 else difference > 4  # the good one's halves look alike


def test_animated_webp_keeps_frames_colours_and_rate():
    frames = [np.full((40, 60, 3), color, np.uint8) for color in ((250, 10, 10), (10, 250, 10))]
    with Image.open(io.BytesIO(animated_webp(frames, 8))) as picture:
        assert picture.n_frames == 2 and picture.size == (60, 40) and picture.info['loop'] == 0
        for index, expected in enumerate(((10, 10, 250), (10, 250, 10))):
            picture.seek(index)
            shown = np.asarray(picture.convert('RGB'))
            assert np.abs(shown.reshape(-1, 3).mean(axis=0) - expected).max() < 8 and picture.info['duration'] == 125


def test_every_score_is_in_percent(page):
    """On axes, below videos and on their pictures; the log holds 0.2 and 0.5, and -1 where a score is undefined."""
    text = page.read_text()
    for axis in ('recall (%)', 'precision (%)', 'score (%)', 'matched at IoU .50 (%)'):
        assert f'>{axis}</text>' in text
    curves = text.partition('id="curves"')[2].partition('</section>')[0]
    assert [int(tick) for tick in re.findall(r'tick [xy]"[^>]*>([^<]*)<', curves)] == [*range(0, 101, 20)] * 2
    validation = text.partition('>Validation</figcaption>')[2].partition('</figure>')[0]
    assert re.findall(r'tick y"[^>]*>([^<]*)<', validation)[-1] == '50' and '>epoch</text>' in validation
    assert validation.count('<circle') == 2 and 'segm_AP75' not in validation
    assert 'predicted above 50 %' in text
    assert label_texts(3, 'seal', 0.871, percent=True)[0] == '#3 seal 87%'


def test_without_images_and_log(data, tmp_path):
    text = write_report(data / 'truth.json', data / 'result.json', tmp_path, gallery=1).read_text()
    assert '<h2>Training</h2>' not in text and text.count('data:image/webp') == 1
    assert 'Of 2 videos these are the 1 best and the 0 worst.' in text


def test_missing_images_are_counted(data, tmp_path):
    shutil.copytree(data / 'images', tmp_path / 'images')
    next((tmp_path / 'images/good').iterdir()).unlink()
    text = write_report(data / 'truth.json', data / 'result.json', tmp_path, images=tmp_path / 'images').read_text()
    assert 'Missing or damaged: 1 image.' in text


@pytest.mark.parametrize(('arguments', 'words'), [
    (dict(images='nowhere'), 'nowhere: no such image folder'), (dict(log='.'), 'holds no training log'),
    (dict(thresh=2), '--thresh must be a number from 0 to 1, not 2'),
    (dict(gallery=-1), '--gallery must be an integer of at least 0, not -1')])
def test_faults(data, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        write_report(data / 'truth.json', data / 'result.json', tmp_path, **arguments)


def test_an_output_that_cannot_be_written_is_refused_first(data, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'--out .*file: .*index\.html cannot be written'):
        write_report('missing.json', data / 'result.json', tmp_path / 'file')


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
    assert points == [(64, 244), (418, 10)] and 'L' not in path
    assert 'a &amp; b' in svg


@pytest.mark.parametrize(('values', 'dots'), [
    ([3.], 1), ([1., 2.], 2), ([1., np.nan, 2.], 2), ([*range(50)], 0), ([*range(50), np.nan, 7], 1)])
def test_points_that_no_line_shows_are_dots(values, dots):
    svg = line_chart([Curve('a', np.stack([np.arange(len(values)), values], axis=1))], 'x', 'y')
    assert svg.count('<circle') == dots


def test_axes_of_a_single_epoch():
    """Whole steps on the x axis, and a y axis near the value."""
    svg = line_chart([Curve('lr', np.array([[11, 6e-5]]))], 'step', '')
    assert re.findall(r'tick x"[^>]*>([^<]*)<', svg) == ['10', '11', '12']
    assert re.findall(r'tick y"[^>]*>([^<]*)<', svg) == ['2e-5', '4e-5', '6e-5', '8e-5', '1e-4']


def colors_of(theme):
    """Line colours in OKLab (10, 3), and their contrast to the card, of a theme of the style sheet."""
    style = Path(charts.__file__).with_name('report.css').read_text()
    part = style.partition('(prefers-color-scheme: dark)')[2 * (theme == 'dark')]
    linear = {}
    for name, code in re.findall(r'--(\w+): (#\w+);', part):
        code = code if len(code) == 7 else '#' + ''.join(2 * digit for digit in code[1:])
        value = np.array([int(code[i:i + 2], 16) / 255 for i in (1, 3, 5)])
        linear.setdefault(name, np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055)**2.4))
    lines = np.stack([linear[f'c{index}'] for index in range(charts.COLORS)])
    light = [value @ (0.2126, 0.7152, 0.0722) + 0.05 for value in (lines, linear['card'])]
    cones = np.cbrt(lines @ np.array([[.4122, .5363, .0514], [.2119, .6807, .1074], [.0883, .2817, .6300]]).T)
    lab = cones @ np.array([[.2105, .7936, -.0041], [1.9780, -2.4286, .4506], [.0259, .7828, -.8087]]).T
    return lab, np.maximum(light[0] / light[1], light[1] / light[0])


@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_colours_of_curves_differ(theme):
    """From each other, by five times what is just noticeable (0.02), and from the card (WCAG: 3 for graphics)."""
    lab, contrast = colors_of(theme)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    assert distance[~np.eye(len(lab), dtype=bool)].min() > 0.1 and contrast.min() >= 3


def test_logarithmic_axis_encloses_the_values():
    svg = line_chart([Curve('loss', np.array([[0, 9.4], [10, 0.031]]))], 'step', '', log=True)
    ticks = [float(text) for text in re.findall(r'tick y"[^>]*>([^<]*)<', svg)]
    assert ticks == [0.01, 0.1, 1, 10]


def test_sections_without_content_are_left_out():
    text = render_page(Page('t', 's', [[Score('AP', 'all', -1)]], [Bar('cat', -1)], [], line_chart(
        [Curve('a', np.zeros((2, 2)))], 'x', 'y')))
    assert not any(f'id="{name}"' in text for name in ('training', 'gallery', 'errors')) and '–' in text


def test_card_source_is_a_picture():
    assert Card('n', 0.5, '', b'RIFF', 1, 1).source == 'data:image/webp;base64,UklGRg=='


OUTSIDE = """return [...document.querySelectorAll("body *")].filter(e => {
    const r = e.getBoundingClientRect(); return r.width && (r.right > innerWidth + 1 || r.left < -1)}).length"""
# texts of charts that exceed their chart or overlap another text of it
CUT_LABELS = """return [...document.querySelectorAll("figure > svg")].flatMap(svg => {
    const all = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].filter(t => t.textContent);
    const boxes = texts.map(t => t.getBoundingClientRect());
    return texts.filter((t, i) => {
        const r = boxes[i];
        return r.left < all.left - .5 || r.right > all.right + .5 || r.bottom > all.bottom + .5 || r.top < all.top - .5
            || boxes.some((o, k) => k !== i && r.left < o.right && o.left < r.right && r.top < o.bottom - 3
                                    && o.top < r.bottom - 3);
    }).map(t => t.textContent)})"""
LARGE = """const r = document.querySelector("dialog img").getBoundingClientRect();
    return [document.querySelector("dialog").open, r.width, r.height]"""


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason='needs the Debian packages chromium and chromium-driver')
@pytest.mark.xdist_group('browser')
def test_in_a_browser(page, tmp_path):
    """Desktop and phone, light and dark: nothing is cut, sorting and enlarging work, no messages, no network."""
    backgrounds = set()
    with Browser(tmp_path / 'profile') as browser:
        for width, dark in ((1280, True), (390, False)):
            browser.open(page.as_uri(), width, dark=dark)
            assert browser.run('return innerWidth') == width
            assert browser.run('return document.documentElement.scrollWidth') <= width
            assert browser.run('return document.title').startswith('Toy <script>')
            assert browser.run('return [...document.querySelectorAll(".cards img")].every(i => i.naturalWidth > 600)')
            assert browser.run(OUTSIDE) == 0 and browser.run(CUT_LABELS) == []
            assert browser.run('return document.querySelectorAll("figure > svg").length') == 5
            names = 'return [...document.querySelectorAll(".cards figure")].map(f => f.dataset.name.slice(0, 4))'
            assert browser.run(names) == ['good', '<i>p']
            browser.click('[data-order=worst]')
            assert browser.run(names) == ['<i>p', 'good']
            picture = np.asarray(Image.open(browser.screenshot(tmp_path / f'{width}.png')).convert('RGB'))
            assert picture.shape[1] >= width - 20 and picture.shape[0] > 900
            assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500  # pictures and text, not an empty page
            assert (picture[2, 2] < 60).all() if dark else (picture[2, 2] > 200).all()
            backgrounds.add(tuple(picture[2, 2]))
            small = browser.run('return document.querySelector(".cards img").getBoundingClientRect().width')
            browser.click('.open')
            is_open, large, height = browser.run(LARGE)
            assert is_open and large > max(small, 0.9 * width) and height == pytest.approx(large * 192 / 644, 0.02)
            browser.click('dialog img')
            assert not browser.run(LARGE)[0]
        assert len(backgrounds) == 2
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
