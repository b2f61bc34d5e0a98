"""File names that people have: order, hidden files, brackets, long names, names that are no UTF-8."""
import os

import pytest

from mmdet.paths import match_paths, natural_key, output_name, shown, visible_files, visible_folders


@pytest.mark.parametrize('names', [
    [str(number) for number in range(12)],
    ['frame9.jpg', 'frame10.jpg'],
    ['a1b9', 'a1b10', 'a2'],
    ['01.png', '2.png', '003.png'],
    ['7.jpg', 'x.jpg'],
    ['1_0001.jpg', '2_0000.jpg', '10_0000.jpg'],
    ['1' + '0' * 30 + '.jpg', '1' + '0' * 31 + '.jpg'],
])
def test_numbers_in_names_are_ordered_by_value(names):
    backwards = names[::-1]
    assert sorted(backwards, key=natural_key) == names


def test_digits_of_other_scripts_and_equal_numbers_have_an_order_too():
    names = ['b/1.jpg', 'a/1.jpg', 'a/²', 'a/٣', 'a/01.jpg']
    assert sorted(names, key=natural_key) == ['a/01.jpg', 'a/1.jpg', 'a/²', 'a/٣', 'b/1.jpg']


def test_hidden_files_and_folders_are_left_out(tmp_path):
    for name in ('10.JPG', '9.jpg', '._9.jpg', 'note.txt', '.hidden.png', 'x.Png'):
        (tmp_path / name).touch()
    for name in ('.ipynb_checkpoints', 'b10', 'b9', 'folder.jpg'):
        (tmp_path / name).mkdir()
    assert [path.name for path in visible_files(tmp_path)] == ['9.jpg', '10.JPG', 'x.Png']
    assert [path.name for path in visible_folders(tmp_path)] == ['b9', 'b10', 'folder.jpg']
    assert [path.name for path in match_paths(tmp_path / '*')] == [
        '9.jpg', '10.JPG', 'b9', 'b10', 'folder.jpg', 'note.txt', 'x.Png']


def test_globs_below_folders_with_brackets(tmp_path):
    for name in ('vid[1]/1.jpg', 'vid[1]/2.jpg', 'vid1/3.jpg', 'vid[1]/deep/4.jpg'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in match_paths(f'{tmp_path}/vid[1]/*.jpg')] == ['1.jpg', '2.jpg']
    assert [path.name for path in match_paths(f'{tmp_path}/vid[1]/[2-9].jpg')] == ['2.jpg']
    assert [path.name for path in match_paths(f'{tmp_path}/vid[0-9]/*.jpg')] == ['3.jpg']
    assert [path.name for path in match_paths(f'{tmp_path}/vid[1]/**/*.jpg')] == ['1.jpg', '2.jpg', '4.jpg']
    assert match_paths(f'{tmp_path}/none/*.jpg') == []


@pytest.mark.parametrize(('text', 'name'), [
    ('0f1a', '0f1a'), ('..hidden', 'hidden'), ('Möwe & co', 'Möwe_co'), ('', 'default'), ('..', 'default'),
    ('l' * 300, 'l' * 100), ('猫' * 80, '猫' * 66), ('Screen 9.41\u202fAM', 'Screen_9.41_AM'), ('a\udcffb', 'a_b'),
    ('x\u3000y\u00a0z', 'x_y_z'), ('a/b\\c', 'a_b_c')])
def test_names_of_written_files(text, name):
    assert output_name(text, 'default') == name
    assert len(os.fsencode(name)) <= 200


def test_names_that_are_no_utf_8_can_be_shown():
    assert shown(os.fsdecode(b'caf\xe9.mp4')) == 'caf\\udce9.mp4' and shown('猫.mp4') == '猫.mp4'
