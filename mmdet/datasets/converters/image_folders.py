"""Image files of the frames of a video, found by their names; called by the converters that read images."""
from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from mmdet.errors import UserError
from mmdet.paths import visible_files

_IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


def check_folders(*folders: Path) -> None:
    """Raise UserError for the first path that is not a folder."""
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f'{folder} is not a folder; give the folders that hold one folder for each video')


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their names without extension, in natural order.

    Raises:
        UserError: two images differ only in their extension, or there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f'{folder} is not a folder; give the folder of the images')
    images: dict[str, Path] = {}
    for path in visible_files(folder, _IMAGE_ENDINGS):
        if path.stem in images:
            raise UserError(f'{images[path.stem]} and {path.name} differ only in their extension; keep one of the two '
                            'in the image folder')
        images[path.stem] = path
    return images


def open_image(path: Path) -> Image.Image:
    """Open an image file; raise UserError if it is not one."""
    try:
        return Image.open(path)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        raise UserError(f'{path} is not a readable image; restore the file') from None


def image_size(path: Path) -> tuple[int, int]:
    """Return the height and width of an image file in pixels, as it is stored."""
    with open_image(path) as image:
        return image.height, image.width


def size_text(shape: tuple[int, ...]) -> str:
    """Format (height, width) as WIDTHxHEIGHT."""
    return f'{shape[1]}x{shape[0]}'
