"""Clips to files and back: what is stored, what is refused, what an interruption leaves."""

import errno
import os
import shutil
import struct
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from zs2 import clip_file, media, read_media
from zs2.errors import InputError
from zs2.media import (
    check_output,
    contact_sheet,
    read_clip,
    read_frames,
    read_settings,
    save,
    save_somewhere,
)

for library in ("av", "PIL", "numpy"):
    pytest.importorskip(library, reason="the media libraries are not installed")

SUFFIXES = [".mp4", ".gif", ".webp", ".png"]
SETTINGS: dict[str, object] = {
    "prompt": '\u732b "walks" \U0001f408 = ; # \\ \n\tna\u00efve ' + "a very long prompt, " * 2000,
    "seed": 2**53 - 1,
    "mu": [0.98, 0.1, None, True],
    "size": {"width": 47},
    "half a character": "\udc80",
}


def clip(frames: int = 6, height: int = 34, width: int = 48) -> Tensor:
    """Soft colours that brighten, under a fine grey texture, uint8 [F, H, W, 3]."""
    texture = 60 * torch.rand(height, width, 1, generator=torch.Generator().manual_seed(0))
    f = torch.arange(frames)[:, None, None, None] * 7
    y = torch.linspace(0, 120, height)[:, None, None] * torch.tensor([1.0, 0.0, 0.5])
    x = torch.linspace(0, 120, width)[:, None] * torch.tensor([0.0, 1.0, 0.5])
    return (f + y + x + texture).clamp(0, 255).to(torch.uint8)


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB."""
    return float(10 * torch.log10(255**2 / (a.double() - b.double()).square().mean()))


def durations(path: Path) -> list[int]:
    """Milliseconds that each frame of a gif or webp shows."""
    from PIL import Image

    shown = []
    with Image.open(path) as image:
        for i in range(image.n_frames):
            image.seek(i)
            image.load()
            shown.append(image.info["duration"])
    return shown


@pytest.mark.parametrize("frames", [1, 6])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_settings_come_back_equal(tmp_path: Path, suffix: str, frames: int) -> None:
    written = save(tmp_path / f"clip{suffix}", clip(frames), 8, SETTINGS)
    assert read_settings(written) == SETTINGS
    assert os.listdir(tmp_path) == [written.name]


@pytest.mark.parametrize("frames", [1, 6])
@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_lossless_formats_come_back_equal(tmp_path: Path, suffix: str, frames: int) -> None:
    torch.manual_seed(0)
    noise = torch.randint(0, 256, (frames, 33, 47, 3), dtype=torch.uint8)
    before = noise.clone()
    assert torch.equal(read_frames(save(tmp_path / f"clip{suffix}", noise, 8, {})), before)
    assert torch.equal(noise, before)


# H.264 at crf 16 and 4:2:0 gives 41 dB here (crf 20: 39.5), 256 dithered colours 37; a wrong colour
# matrix or range, swapped channels or frames out of order fall far below.
@pytest.mark.parametrize(("suffix", "bound"), [(".mp4", 40), (".gif", 34)])
def test_lossy_formats_come_back_close(tmp_path: Path, suffix: str, bound: float) -> None:
    frames = clip()
    back = read_frames(save(tmp_path / f"clip{suffix}", frames, 8, {}))
    assert back.shape == frames.shape
    assert back.dtype == torch.uint8
    for got, want in zip(back, frames, strict=True):
        assert psnr(got, want) > bound


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_frames_stay_apart(tmp_path: Path, suffix: str) -> None:
    a, b = clip(2)
    frames = torch.stack([a, a, a, b, b, a, a, a, a])
    back = read_frames(save(tmp_path / f"clip{suffix}", frames, 8, {}))
    assert len(back) == 9
    for got, want in zip(back, frames, strict=True):
        assert psnr(got, want) > (34 if suffix in (".mp4", ".gif") else 200)
    black = torch.zeros(4, 16, 16, 3, dtype=torch.uint8)
    back = read_frames(save(tmp_path / f"black{suffix}", black, 8, {}))
    assert torch.equal(back, black)


def test_mp4_grows_odd_sides_by_their_last_row_and_column(tmp_path: Path) -> None:
    frames = clip(height=33, width=47)
    back = read_frames(save(tmp_path / "clip.mp4", frames, 8, {}))
    assert back.shape == (6, 34, 48, 3)
    grown = torch.cat([frames, frames[:, -1:]], dim=1)
    grown = torch.cat([grown, grown[:, :, -1:]], dim=2)
    assert psnr(back[:, 33:], grown[:, 33:]) > 36
    assert psnr(back[:, :, 47:], grown[:, :, 47:]) > 36


@pytest.mark.parametrize("fps", [8, 7.5, 24000 / 1001])
def test_mp4_frame_rate_and_colours_are_tagged(tmp_path: Path, fps: float) -> None:
    import av

    path = save(tmp_path / "clip.mp4", clip(), fps, {})
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(fps, rel=1e-6)
        assert float(stream.duration * stream.time_base) == pytest.approx(6 / fps, rel=1e-3)
        assert stream.codec_context.pix_fmt == "yuv420p"
        context = stream.codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
    # Browsers start to play before the end has arrived: the index stands before the pictures.
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize(
    ("suffix", "fps", "want"),
    [
        (".gif", 8, [120, 130, 130, 120, 120, 130]),
        (".gif", 12, [80, 90, 80, 80, 90, 80]),
        (".webp", 8, [125] * 6),
        (".webp", 24, [42, 41, 42, 42, 41, 42]),
    ],
)
def test_durations_add_up(tmp_path: Path, suffix: str, fps: float, want: list[int]) -> None:
    path = save(tmp_path / f"clip{suffix}", clip(), fps, {})
    assert durations(path) == want


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_loop_forever(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    with Image.open(save(tmp_path / f"clip{suffix}", clip(), 8, {})) as image:
        assert image.info["loop"] == 0


def test_gif_palette_sees_every_column(tmp_path: Path) -> None:
    # An even step from one sampled pixel to the next would never meet the red columns.
    frames = torch.zeros(8, 256, 256, 3, dtype=torch.uint8)
    frames[:, :, 1::2, 0] = 255
    assert torch.equal(read_frames(save(tmp_path / "clip.gif", frames, 8, {})), frames)


def test_gif_palette_is_shared_from_a_first_frame_of_few_colours(tmp_path: Path) -> None:
    frames = clip()
    frames[0] = 0
    back = read_frames(save(tmp_path / "clip.gif", frames, 8, {}))
    assert torch.equal(back[0], frames[0])
    assert psnr(back[1:], frames[1:]) > 34


def test_several_pngs_are_a_numbered_folder(tmp_path: Path) -> None:
    target = save(tmp_path / "my.clip.png", clip(3), 8, SETTINGS)
    assert target == tmp_path / "my.clip"
    names = ["0001.png", "0002.png", "0003.png"]
    assert sorted(os.listdir(target)) == names
    for i, name in enumerate(names):
        assert read_settings(target / name) == SETTINGS
        assert torch.equal(read_frames(target / name), clip(3)[i : i + 1])


def test_numbers_past_9999_stay_in_order(tmp_path: Path) -> None:
    for i, number in enumerate(["9999", "10000", "0002"]):
        save(tmp_path / f"{number}.png", clip(3)[i : i + 1], 8, {})
    assert torch.equal(read_frames(tmp_path), clip(3)[[2, 0, 1]])


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".PNG", ".Mp4"])
def test_what_exists_is_replaced_only_when_asked(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    target = save(path, clip(5), 8, {"take": 1})
    with pytest.raises(InputError, match="exists already"):
        save(path, clip(3), 8, {"take": 2})
    assert read_settings(target) == {"take": 1}
    assert save(path, clip(3), 8, {"take": 2}, overwrite=True) == target
    assert read_settings(target) == {"take": 2}
    assert len(read_frames(target)) == 3
    assert os.listdir(tmp_path) == [target.name]


def test_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "clip.png"
    target = save(path, clip(3), 8, {})
    (target / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds more than frames"):
        save(path, clip(2), 8, {}, overwrite=True)
    assert len(os.listdir(target)) == 4


def test_check_output_names_what_save_writes(tmp_path: Path) -> None:
    for name, frames, want in [
        ("a.png", 1, "a.png"),
        ("a.png", 2, "a"),
        ("a.mp4", 2, "a.mp4"),
        ("a.GIF", 1, "a.GIF"),
    ]:
        assert check_output(tmp_path / name, frames) == tmp_path / want
    assert os.listdir(tmp_path) == []


def test_outputs_that_cannot_be_written_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.gif").mkdir()
    (tmp_path / "frames").touch()
    for name, message in [
        ("clip.avi", r"no known suffix: end it in one of \.mp4, \.gif, \.webp, \.png"),
        ("clip", "no known suffix"),
        ("none/clip.gif", "create the folder .*none first"),
        ("frames/clip.gif", "create the folder .*frames first"),
        ("folder.gif", "is a folder already"),
        ("frames.png", "frames is a file already"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            check_output(tmp_path / name, 2, overwrite=True)
        assert name.split(".")[0] in str(caught.value)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="you may not write"):
        check_output(tmp_path / "clip.gif", 2)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("missing", ["av", "PIL", "numpy"])
def test_missing_libraries_are_named_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, missing: str
) -> None:
    monkeypatch.setattr(clip_file, "find_spec", lambda name: None if name == missing else name)
    if missing in ("numpy", "av" if suffix == ".mp4" else "PIL"):
        with pytest.raises(InputError, match=rf'library {missing}: pip install "zs2\[video\]"'):
            check_output(tmp_path / f"clip{suffix}", 2)
    else:
        check_output(tmp_path / f"clip{suffix}", 2)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "disk full")])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("overwrite", [False, True])
def test_interrupted_writes_leave_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    error: BaseException,
    overwrite: bool,
) -> None:
    from PIL import GifImagePlugin, Image

    path = tmp_path / f"clip{suffix}"
    if overwrite:
        save(path, clip(4), 8, {"take": 1})
    before = sorted(tmp_path.rglob("*"))
    # What each writer calls as it goes; webp alone is written in one call.
    owner, name, last = {
        ".mp4": (Tensor, "numpy", 3),
        ".gif": (GifImagePlugin, "getdata", 3),
        ".webp": (Image.Image, "save", 1),
        ".png": (Image.Image, "save", 3),
    }[suffix]
    original = getattr(owner, name)
    calls = 0

    def fail_at_last(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        result = original(*args, **kwargs)
        if calls == last:
            assert sorted(tmp_path.rglob("*")) != before, "nothing was being written"
            raise error
        return result

    monkeypatch.setattr(owner, name, fail_at_last)
    with pytest.raises(type(error)):
        save(path, clip(5), 8, {"take": 2}, overwrite)
    monkeypatch.undo()
    assert sorted(tmp_path.rglob("*")) == before
    if overwrite:
        assert read_settings(check_output(path, 5, overwrite)) == {"take": 1}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource", reason="the system has no limit on file sizes")
    torch.manual_seed(0)
    noise = torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(OSError):
            save(tmp_path / f"clip{suffix}", noise, 8, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("fps", [0, -8, float("nan"), float("inf")])
def test_bad_fps(tmp_path: Path, fps: float) -> None:
    with pytest.raises(InputError, match="fps of gif must lie in"):
        save(tmp_path / "clip.gif", clip(), fps, {})


@pytest.mark.parametrize(
    "frames",
    [clip().float(), clip()[0], clip()[:0], clip()[..., :2]],
    ids=["float", "3d", "empty", "2 channels"],
)
def test_bad_frames(tmp_path: Path, frames: Tensor) -> None:
    with pytest.raises(ValueError, match=r"frames must be uint8 \[F, H, W, 3\]"):
        save(tmp_path / "clip.gif", frames, 8, {})


def test_permuted_frames(tmp_path: Path) -> None:
    frames = clip().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    for suffix in SUFFIXES:
        back = read_frames(save(tmp_path / f"clip{suffix}", frames, 8, {}))
        assert psnr(back, frames) > 34


def test_files_without_settings(tmp_path: Path) -> None:
    import av
    from PIL import Image

    picture = Image.new("RGB", (16, 16))
    picture.save(tmp_path / "plain.png")
    picture.save(tmp_path / "other.gif", comment='{"prompt": "by another tool"}')
    picture.save(tmp_path / "text.gif", comment="\xff made with love")
    picture.save(tmp_path / "list.gif", comment='{"zs2": [1]}')
    picture.save(tmp_path / "plain.webp")
    with av.open(str(tmp_path / "plain.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InputError, match="holds no settings: zs2 did not make it") as caught:
            read_settings(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("read", [read_frames, read_settings])
def test_unreadable_paths_are_named(tmp_path: Path, read: object) -> None:
    assert callable(read)
    whole = save(tmp_path / "whole.mp4", clip(), 8, {}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:200])
    for suffix in SUFFIXES:
        (tmp_path / f"junk{suffix}").write_bytes(b"junk")
        (tmp_path / f"empty{suffix}").touch()
    (tmp_path / "folder").mkdir()
    for name in ["none.mp4", "cut.mp4", "folder"] + [
        f"{stem}{suffix}" for stem in ("junk", "empty") for suffix in SUFFIXES
    ]:
        with pytest.raises(InputError) as caught:
            read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_truncated_pictures_are_named(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(0)
    noise = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    path = save(tmp_path / f"clip{suffix}", noise, 8, {})
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"clip\.\w+ cannot be read as a clip or picture"):
        read_frames(path)


def test_folder_of_different_sizes(tmp_path: Path) -> None:
    save(tmp_path / "0001.png", clip(1, 16, 16), 8, {})
    save(tmp_path / "0002.png", clip(1, 16, 24), 8, {})
    with pytest.raises(InputError, match="must hold frames of one size, but has 16x16, 24x16"):
        read_frames(tmp_path)


def test_photographs_stand_upright(tmp_path: Path) -> None:
    from PIL import Image

    orientation = 0x0112
    frame = clip(1)[0]
    exif = Image.Exif()
    exif[orientation] = 6  # turn a quarter clockwise to show
    Image.fromarray(frame.numpy()).save(tmp_path / "photo.png", exif=exif)
    assert torch.equal(read_frames(tmp_path / "photo.png")[0], torch.rot90(frame, -1))


def test_contact_sheet_fills_rows_and_leaves_white() -> None:
    frames = clip(5, 4, 6)
    sheet = contact_sheet(frames, columns=3)
    assert sheet.shape == (8, 18, 3)
    assert sheet.dtype == torch.uint8
    for i, frame in enumerate(frames):
        row, column = divmod(i, 3)
        assert torch.equal(sheet[4 * row : 4 * row + 4, 6 * column : 6 * column + 6], frame)
    assert bool((sheet[4:, 12:] == 255).all())
    assert contact_sheet(frames).shape == (8, 24, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv", ".avi", ".gif", ".webp"])
def test_clips_come_with_their_rate(tmp_path: Path, suffix: str) -> None:
    name = tmp_path / f"clip{suffix}"
    if suffix in (".mp4", ".gif", ".webp"):
        save(name, clip(), 12.5, {})
    else:
        write_video(name, clip(), 12.5)
    frames, fps = read_clip(name)
    assert fps == pytest.approx(12.5, rel=1e-6)
    assert frames.shape == (6, 34, 48, 3)
    # MPEG-4 at its usual quality, H.264 and 256 colours alike; a wrong order falls far below.
    assert all(psnr(a, b) > 25 for a, b in zip(frames, clip(), strict=True))
    assert torch.equal(read_clip(name, most=2)[0], frames[:2])
    assert torch.equal(read_frames(name), frames)


def write_video(path: Path, frames: Tensor, fps: float) -> None:
    import av

    codec = "mpeg4" if path.suffix == ".avi" else "libx264"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.bit_rate = 4_000_000
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def test_folders_of_pictures_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    from PIL import Image

    for i, name in enumerate(["frame2.png", "frame10.PNG", "frame1.jpeg", "frame11.webp"]):
        flat = torch.full((16, 16, 3), 50 * i, dtype=torch.uint8)
        Image.fromarray(flat.numpy()).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no frame")
    (tmp_path / ".hidden.png").write_text("no frame")
    frames, fps = read_clip(tmp_path)
    assert frames[:, 0, 0, 0].tolist() == [100, 0, 50, 150]
    assert fps == 8.0
    assert read_clip(tmp_path / "frame2.png")[1] == 8.0


def test_videos_of_phones_stand_upright(tmp_path: Path) -> None:
    path = save(tmp_path / "clip.mp4", clip(), 8, {})
    lying = read_frames(path)
    content = path.read_bytes()
    # The matrix of ISO/IEC 14496-12, 8.3.2: upright, and a quarter clockwise.
    upright, turned = (
        struct.pack(">9i", *(65536 * v for v in rows), 2**30)
        for rows in ((1, 0, 0, 0, 1, 0, 0, 0), (0, 1, 0, -1, 0, 0, 34, 0))
    )
    at = content.index(upright, content.index(b"tkhd"))
    path.write_bytes(content[:at] + turned + content[at + 36 :])
    frames = read_frames(path)
    assert frames.shape == (6, 48, 34, 3)
    assert torch.equal(frames, lying.rot90(-1, (1, 2)))


def test_only_the_first_picture_of_a_photograph(tmp_path: Path) -> None:
    from PIL import Image

    first, depth = (Image.new("RGB", size, "red") for size in ((32, 16), (8, 4)))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[depth])
    assert read_frames(tmp_path / "a.jpg").shape == (1, 16, 32, 3)


@pytest.mark.filterwarnings("ignore:Image size")  # Pillow warns before it refuses
def test_files_that_unpack_to_gigabytes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "clip.gif", clip(), 8, {})
    content = path.read_bytes()
    for width, height in ((65535, 65535), (20000, 1), (10000, 9000)):
        path.write_bytes(content[:6] + struct.pack("<HH", width, height) + content[10:])
        with pytest.raises(InputError, match=r"too large|bomb"):
            read_frames(path)
    path.write_bytes(content)
    for limit in ("_MOST_FRAMES", "_MOST_PIXELS"):
        with monkeypatch.context() as patch:
            patch.setattr(read_media, limit, 5)
            with pytest.raises(InputError, match=r"clip.gif is too large: .* cut it"):
                read_frames(path)


@pytest.mark.parametrize("read", [read_clip, read_settings])
def test_programs_and_addresses_in_a_file_are_not_followed(tmp_path: Path, read: object) -> None:
    assert callable(read)
    save(tmp_path / "secret.mp4", clip(), 8, {})
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    (tmp_path / "page.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for name in ("list.mp4", "page.png"):
        with pytest.raises(InputError, match="cannot be read as a clip or picture"):
            read(tmp_path / name)


def test_colons_in_a_name_are_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("file:a.mp4"), clip(), 8, {"seed": 1})
    assert read_settings(Path("file:a.mp4")) == {"seed": 1}
    assert len(read_frames(Path("file:a.mp4"))) == 6


def test_settings_nested_too_deep(tmp_path: Path) -> None:
    from PIL import Image, PngImagePlugin

    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("zs2", '{"zs2": {"a": ' + "[" * 5000 + "]" * 5000 + "}}")
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", pnginfo=chunks)
    with pytest.raises(InputError, match="holds no settings"):
        read_settings(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_clip, read_settings])
def test_pipes_are_not_waited_for(tmp_path: Path, read: object) -> None:
    assert callable(read)
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="no regular file"):
        read(tmp_path / "a.mp4")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("links", [True, False])
def test_what_another_program_wrote_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, links: bool
) -> None:
    """Between the look at the path and the end of the writing, it is taken."""
    path = tmp_path / f"clip{suffix}"

    def other(target: Path, part: Path) -> None:
        raise PermissionError("no links here")

    def late(folder: Path) -> None:
        monkeypatch.undo()
        if not links:
            monkeypatch.setattr(Path, "hardlink_to", other)
        save(path, clip(3), 8, {"by": "the other"})

    monkeypatch.setattr(media, "_clear_leftovers", late)
    with pytest.raises(InputError, match="exists already"):
        save(path, clip(5), 8, {"by": "us"})
    target = check_output(path, 5, overwrite=True)
    assert read_settings(target) == {"by": "the other"}
    assert os.listdir(tmp_path) == [target.name]


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupted_exchange_loses_no_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, after: bool
) -> None:
    path = tmp_path / "clip.png"
    target = save(path, clip(3), 8, {"take": 1})
    original, calls = Path.rename, 0

    def rename(source: Path, to: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise KeyboardInterrupt
        result = original(source, to)
        if calls == call:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        save(path, clip(5), 8, {"take": 2}, overwrite=True)
    monkeypatch.undo()
    new = call == 3 or (call == 2 and after)
    assert read_settings(target) == {"take": 2 if new else 1}
    assert len(read_frames(target)) == (5 if new else 3)


def test_leftovers_of_killed_programs_go_after_a_day(tmp_path: Path) -> None:
    names = [".zs2-part-abcd1234", ".zs2-part-efgh5678", ".zs2-part-of-my-own", ".zs2-notes"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.gif").touch()
        if "efgh" not in name:  # that one is being written
            os.utime(tmp_path / name, (0, 0))
    save(tmp_path / "clip.gif", clip(), 8, {})
    assert sorted(os.listdir(tmp_path)) == sorted([*names[1:], "clip.gif"])


def test_what_was_sampled_is_written_somewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, here, temporary = (tmp_path / name for name in ("wanted", "here", "temporary"))
    for folder in (wanted, here, temporary):
        folder.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def write(path: Path) -> Path:
        return save(path, clip(), 8, {})

    assert save_somewhere(write, wanted / "a.gif") == (wanted / "a.gif", None)
    written, reason = save_somewhere(write, wanted / "a.gif")  # the name is taken
    assert written.parent == wanted
    assert "exists already" in str(reason)
    shutil.rmtree(wanted)
    written, reason = save_somewhere(write, wanted / "a.gif")
    assert (here / written).exists()
    assert not written.is_absolute()
    assert "create the folder" in str(reason)
    shutil.rmtree(here)
    written, _ = save_somewhere(write, wanted / "a.gif")
    assert written.parent == temporary
    assert len(read_frames(written)) == 6
    shutil.rmtree(temporary)
    with pytest.raises(InputError, match="wanted"):
        save_somewhere(write, wanted / "a.gif")


def test_names_too_long_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File name too long"):
        check_output(tmp_path / f"{'x' * 300}.gif", 2)
