import pytest

from lisa_mm.datasets import folder_classes


def test_names_are_sorted_and_files_left_out(tmp_path):
    for name in ('tulip', 'daisy'):
        (tmp_path / name).mkdir()
    (tmp_path / 'readme.txt').write_text('')
    assert folder_classes(tmp_path) == ('daisy', 'tulip')


def test_bad_input(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no folder .*nowhere; name the folder'):
        folder_classes(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match='must hold one folder of images per class, found none'):
        folder_classes(tmp_path)
