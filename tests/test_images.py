"""Image files are read with care: every kind is read as grey, or refused by name; sets are checked against lists, fetched and kept apart."""

import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image
from skimage.io import imsave

from pudle.cli import main
from pudle.data import images, inventory
from pudle.data.catalogue import BUNDLED, DATA_SETS, FOLDERS, data_root
from pudle.data.images import content_hash, load_images, read_grey, refuse_overlap
from pudle.errors import PudleError
from pudle.experiments.denoising.run import load


def _save(path: Path, value: int = 100, shape=(9, 9)) -> Path:
    path.parent.mkdir(exist_ok=True)
    imsave(path, np.full(shape, value, np.uint8), check_contrast=False)
    return path


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 3), (6, 7, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_colour_and_depth_are_read_alike(tmp_path, shape, dtype):
    image = np.full(shape, np.iinfo(dtype).max // 2, dtype)
    if shape[-1] == 4:
        image[..., 3] = np.iinfo(dtype).max
    path = tmp_path / ("image.tif" if dtype is np.uint16 and len(shape) == 3 else "image.png")
    imsave(path, image, check_contrast=False)
    np.testing.assert_allclose(read_grey(path), 0.5, atol=0.003)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_is_read_as_grey(tmp_path, mode):
    """A white square on black: palette, transparency, one bit and sixteen bits make no difference."""
    square = np.zeros((8, 9), np.uint8)
    square[2:5, 3:6] = 255
    picture = Image.fromarray(square.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(square).convert(mode)
    picture.save(tmp_path / "square.png")
    np.testing.assert_allclose(read_grey(tmp_path / "square.png"), square / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_every_mode_of_tiff_is_read_as_grey(tmp_path, mode):
    square = np.zeros((8, 9), np.uint8)
    square[2:5, 3:6] = 255
    Image.fromarray(square).convert(mode).save(tmp_path / "square.tif")
    np.testing.assert_allclose(read_grey(tmp_path / "square.tif"), square / 255, atol=1e-6)


def test_tiff_of_numbered_colours_with_alpha_is_seen_on_white(tmp_path):
    colours = Image.fromarray(np.dstack([np.tile(np.uint8([0, 200]), (8, 4))] * 3)).quantize(2).convert("PA")
    colours.putalpha(Image.fromarray(np.repeat(np.uint8([[0], [255]]), 4, axis=0).repeat(8, axis=1)))
    colours.save(tmp_path / "numbered.tif")
    image = read_grey(tmp_path / "numbered.tif")
    np.testing.assert_allclose(image[:4], 1, atol=1e-6)
    np.testing.assert_allclose(image[4:], np.tile([0, 200 / 255], (4, 4)), atol=1e-6)


def test_tiff_in_which_0_is_white(tmp_path):
    tifffile.imwrite(tmp_path / "inverted.tif", np.full((4, 5), 51, np.uint8), photometric="miniswhite")
    np.testing.assert_allclose(read_grey(tmp_path / "inverted.tif"), 0.8, atol=1e-6)


@pytest.mark.parametrize("colours", ["CMYK", "LAB", "YCbCr"])
def test_tiff_of_other_colours_is_refused(tmp_path, colours):
    bands = 4 if colours == "CMYK" else 3
    Image.fromarray(np.full((8, 8, bands), 90, np.uint8), mode=colours).save(tmp_path / "inks.tif")
    with pytest.raises(PudleError, match=r"inks\.tif: its colours are \w+; save it as grey or RGB"):
        read_grey(tmp_path / "inks.tif")


def test_sixteen_bits_of_pgm(tmp_path):
    (tmp_path / "deep.pgm").write_bytes(b"P5 2 1 65535\n" + np.array([0, 32768], ">u2").tobytes())
    np.testing.assert_allclose(read_grey(tmp_path / "deep.pgm"), [[0, 0.5]], atol=1e-4)


def test_what_is_transparent_is_white(tmp_path):
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(tmp_path / "clear.png")
    np.testing.assert_allclose(read_grey(tmp_path / "clear.png"), 1)


def _png(path, pixels, bits, clear=None):
    """Write a PNG with ``bits`` a number, with or without alpha, in which the colour ``clear``, if given, is transparent."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    numbers = np.unpackbits(pixels.astype(">u2").view(np.uint8).reshape(*pixels.shape, 2), axis=-1)[..., -bits:]
    rows = np.packbits(numbers.reshape(len(pixels), -1), axis=1)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[np.atleast_3d(pixels).shape[2]]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", pixels.shape[1], len(pixels), bits, kind, 0, 0, 0))
    if clear is not None:
        head += chunk(b"tRNS", np.atleast_1d(clear).astype(">u2").tobytes())
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b""))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_of_a_png_are_all_read(channels, tmp_path):
    """Neighbouring pixels differ in their lower bytes alone, or in one of them."""
    pixels = (20000 + np.arange(48)).reshape(6, 8)
    colours = np.dstack([pixels] * (1 if channels < 3 else 3))
    image = colours if channels % 2 else np.dstack([colours, np.full((6, 8), 60001)])
    _png(tmp_path / "a.png", image, 16)
    alpha = 1 if channels % 2 else 60001 / 65535
    np.testing.assert_allclose(read_grey(tmp_path / "a.png"), alpha * pixels / 65535 + 1 - alpha, atol=1e-6)


@pytest.mark.parametrize(("bits", "clear"), [(1, 0), (1, 1), (2, 0), (2, 2), (4, 0), (4, 5), (8, 77), (16, 0), (16, 0x1234)])
@pytest.mark.parametrize("n_colours", [1, 3])
def test_one_colour_alone_is_transparent_whatever_the_bits(n_colours, bits, clear, tmp_path):
    """The other pixels differ from it by 1 in the last of the colours."""
    if n_colours == 3 and bits < 8:
        pytest.skip("colours have eight bits or more")
    near = clear + 1 if clear < 2**bits - 1 else clear - 1
    pixels = np.full((6, 8, n_colours), clear)
    pixels[2, :, -1] = near
    _png(tmp_path / "a.png", pixels.squeeze(), bits, np.full(n_colours, clear))
    grey = read_grey(tmp_path / "a.png")
    np.testing.assert_array_equal(grey[np.arange(6) != 2], 1)
    np.testing.assert_allclose(grey[2], (near if n_colours == 1 else clear) / (2**bits - 1), atol=1e-3)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha"])
def test_colours_of_a_tiff_may_be_multiplied_by_their_alpha(kind, colours, tmp_path):
    image = np.full((5, 6, colours + 1), 100, np.uint8)
    image[..., -1] = 127
    photometric = "minisblack" if colours == 1 else "rgb"
    tifffile.imwrite(tmp_path / "a.tif", image, photometric=photometric, planarconfig="contig", extrasamples=[kind])
    colour = 100 / 255 if kind == "assocalpha" else 127 / 255 * 100 / 255
    np.testing.assert_allclose(read_grey(tmp_path / "a.tif"), colour + 128 / 255, atol=1e-2)


@pytest.mark.parametrize("kind", ["palette", "grey", "rgb", "bit", "sixteen bits"])
def test_a_colour_that_is_transparent_is_white_too(kind, tmp_path):
    """A PNG may have no alpha channel and name the colour that is transparent. Here it is black, around a brighter square."""
    grey = np.zeros((8, 9), np.uint8)
    grey[2:5, 3:6] = 200
    rgb, alpha = np.dstack([grey] * 3), np.where(grey > 0, 255, 0).astype(np.uint8)
    image, clear = {
        "palette": (Image.fromarray(np.dstack([rgb, alpha])).quantize(4), None),
        "grey": (Image.fromarray(grey), 0),
        "rgb": (Image.fromarray(rgb), (0, 0, 0)),
        "bit": (Image.fromarray(grey > 0), 0),
        "sixteen bits": (Image.fromarray(grey.astype(np.uint16) * 257), 0),
    }[kind]
    image.save(tmp_path / "a.png", **({} if clear is None else {"transparency": clear}))
    square = 1 if kind == "bit" else 200 / 255
    np.testing.assert_allclose(read_grey(tmp_path / "a.png"), np.where(grey > 0, square, 1), atol=1e-3)


def test_floating_point_images_are_taken_as_they_are(tmp_path):
    values = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    tifffile.imwrite(tmp_path / "float.tif", values)
    assert np.array_equal(read_grey(tmp_path / "float.tif"), values)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((4, 4), np.nan, np.float32), "16 values are not finite"),
        (np.full((4, 4), 200.0, np.float32), "must be in \\[0, 1\\], not from 200 to 200"),
        (np.full((4, 4), 5, np.int32), "white is not known for type int32"),
        (np.zeros((3, 4, 4, 5), np.uint8), "not a grey, RGB or RGBA image"),
        (np.zeros((7, 40, 3), np.uint8), "not a grey, RGB or RGBA image"),  # seven pages
        (np.full((4, 4, 3), 5, np.uint32), "white is not known for type uint32"),
        (np.full((4, 4, 4), 200.0, np.float32), "must be in \\[0, 1\\], not from 200 to 200"),
        (np.full((4, 4, 4), np.inf, np.float32), "64 values are not finite"),
    ],
)
def test_tiff_files_without_a_scale_are_refused(tmp_path, array, message):
    colour = array.ndim == 3 and array.shape[0] == 4
    tifffile.imwrite(tmp_path / "odd.tif", array, photometric="rgb" if colour else "minisblack")
    with pytest.raises(PudleError, match=rf"odd\.tif: .*{message}"):
        read_grey(tmp_path / "odd.tif")


def test_four_inks_in_a_jpeg_are_no_transparency(tmp_path):
    Image.fromarray(np.zeros((8, 8, 4), np.uint8), mode="CMYK").save(tmp_path / "inks.jpg")
    with pytest.raises(PudleError, match=r"inks\.jpg: not a grey, RGB or RGBA image"):
        read_grey(tmp_path / "inks.jpg")


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.tif"])
@pytest.mark.parametrize("keep", [0, 0.6])
def test_truncated_and_empty_files_are_refused_by_name(tmp_path, name, keep):
    imsave(tmp_path / name, np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8), check_contrast=False)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(PudleError, match=rf"{name}: cannot be read as an image"):
        read_grey(tmp_path / name)


def test_huge_images_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    _save(tmp_path / "huge.png", shape=(30, 40))
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    monkeypatch.setattr(images, "imread", None)
    with pytest.raises(PudleError, match=r"huge\.png: 30 x 40 pixels are more than the 1,000"):
        read_grey(tmp_path / "huge.png")


def _denoising(tmp_path: Path, **changes) -> dict:
    own = f"folder:{tmp_path}"
    return {"train": f"{own}/train", "test": [f"{own}/test"], "kernel": 9, "stride": 4, "crop": 17} | changes


def test_one_pixel_is_refused_before_training(tmp_path):
    _save(tmp_path / "train" / "a.png", shape=(20, 20))
    _save(tmp_path / "test" / "tiny.png", shape=(1, 1))
    with pytest.raises(
        PudleError, match=r"image 'tiny' of data set 'folder:.*' has 1 x 1 pixels: smaller than the filters of 9 x 9"
    ):
        load(_denoising(tmp_path))
    _save(tmp_path / "train" / "b.png", shape=(16, 30))
    with pytest.raises(PudleError, match=r"image 'b' .* has 16 x 30 pixels: smaller than the crop of 17 x 17"):
        load(_denoising(tmp_path))


def test_folders_of_any_images(tmp_path, caplog, monkeypatch):
    folder = tmp_path / "mine"
    for name in ("b.png", "a.jpg", "c.TIFF"):
        _save(folder / name)
    (folder / "read me.txt").write_text("hello")
    (folder / ".hidden").write_text("hello")
    (folder / "deeper").mkdir()
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert list(load_images("folder:mine", Path("nowhere"))) == ["a", "b", "c"]
    assert (
        "mine: 3 images; 2 other entries are left out, since they do not have the suffix of an image: deeper, read me.txt"
        in caplog.text
    )
    (folder / "c.png").write_bytes(b"not a picture")
    with pytest.raises(PudleError, match=r"c\.TIFF and c\.png have the same name but for the suffix"):
        load_images("folder:mine", tmp_path)
    (folder / "c.TIFF").unlink()
    with pytest.raises(PudleError, match=r"c\.png: cannot be read as an image"):
        load_images("folder:mine", tmp_path)


def test_missing_and_empty_folders_say_what_belongs_there(tmp_path):
    with pytest.raises(PudleError, match=r"cbsd432: .* is missing.*Berkeley.*PUDLE_DATA"):
        load_images("cbsd432", tmp_path)
    with pytest.raises(PudleError, match="there is no such folder"):
        load_images(f"folder:{tmp_path}/nowhere", tmp_path)
    with pytest.raises(PudleError, match="did you mean 'bsd68'"):
        load_images("bsd86", tmp_path)
    (tmp_path / "set12").mkdir()
    with pytest.raises(PudleError, match="no images"):
        load_images("set12", tmp_path)


def test_a_test_image_among_the_training_images_is_refused_with_both_names(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
    for name in ("train/one.png", "test/other name.tif"):  # another name and format
        (tmp_path / name).parent.mkdir()
        imsave(tmp_path / name, pixels, check_contrast=False)
    with pytest.raises(
        PudleError, match=r"image 'other name' of the test set '.*test' is image 'one' of the training set '.*train'"
    ):
        load(_denoising(tmp_path))
    train, test = (load_images(name, data_root()) for name in BUNDLED)
    refuse_overlap(train, test, *BUNDLED)
    assert content_hash(pixels / 255) != content_hash(pixels.reshape(24, 20) / 255)


@pytest.mark.parametrize("other", ["RGB.png", "RGBA.png", "LA.png", "P.png", "16.png", "float.tif", "P.tif"])
def test_a_picture_is_the_same_in_every_mode_and_depth(tmp_path, other):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
    imsave(tmp_path / "train" / "one.png", pixels, check_contrast=False)
    path = tmp_path / "test" / other
    if other == "16.png":
        Image.fromarray(pixels.astype(np.uint16) * 257).save(path)
    elif other == "float.tif":
        tifffile.imwrite(path, (pixels / 255).astype(np.float32))
    else:
        Image.fromarray(pixels).convert(path.stem).save(path)
    with pytest.raises(PudleError, match="is image 'one' of the training set"):
        load(_denoising(tmp_path))


def test_images_that_cannot_be_scored_are_refused_by_name(tmp_path):
    draw = np.random.default_rng(0)
    for name in ("train/a.png", "test/b.png"):
        (tmp_path / name).parent.mkdir()
        imsave(tmp_path / name, draw.integers(0, 256, (20, 24), np.uint8), check_contrast=False)
    _save(tmp_path / "test" / "night.png", 0, (20, 20))
    with pytest.raises(PudleError, match=r"image 'night' of data set '.*test' is black: PSNR as published"):
        load(_denoising(tmp_path))
    (tmp_path / "test" / "night.png").unlink()
    imsave(tmp_path / "test" / "tiny.png", draw.integers(0, 256, (5, 20), np.uint8), check_contrast=False)
    with pytest.raises(PudleError, match=r"image 'tiny' .* 5 x 19 pixels: smaller than the window of SSIM of 7 x 7"):
        load(_denoising(tmp_path, kernel=3, stride=2))


def test_a_name_that_is_a_formula_is_refused_with_its_folder(tmp_path):
    _save(tmp_path / "mine" / "-a.png")
    with pytest.raises(PudleError, match=r"mine/-a\.png: a name that begins with '-'"):
        load_images(f"folder:{tmp_path}/mine", tmp_path)
    with pytest.raises(PudleError, match="'folder:': a path must follow"):
        load_images("folder:", tmp_path)


def test_crops_larger_than_an_image_name_it():
    with pytest.raises(PudleError, match="image 'small' has 5 x 9 pixels: smaller than crops of 6 x 6"):
        images.random_crops({"small": np.zeros((5, 9), np.float32)}, 6, 1, np.random.default_rng(0))


@pytest.mark.parametrize("name", FOLDERS)
def test_the_real_folders_where_they_are(name):
    if not (data_root() / name).is_dir():
        pytest.skip(f"the data set {name} is not under PUDLE_DATA")
    found = inventory.check(name, data_root())
    assert found.count == {"bsd68": 68, "cbsd432": 432, "set12": 12}[name] and not found.wrong


@pytest.mark.parametrize("name", DATA_SETS)
def test_lists_have_a_line_for_each_image(name):
    table = inventory.listed(name)
    assert len(table) == {"skimage-train": 8, "skimage-test": 3, "bsd68": 68, "cbsd432": 432, "set12": 12}[name]
    assert table.index.is_unique and table.sha256.is_unique and (table.sha256.str.len() == 64).all()


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_photographs_are_as_listed(name):
    done = CliRunner().invoke(main, ["data", "check", name])
    assert done.exit_code == 0 and "all files match the list" in done.output
