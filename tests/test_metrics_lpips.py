"""LPIPS against the package that has its name, with random classifiers."""

import pytest
import torch
from safetensors.torch import save_file, save_model

from zs2 import evaluate, media
from zs2.checkpoint.lpips import load_lpips
from zs2.errors import InputError
from zs2.metrics.lpips import ALEXNET, LPIPS, SMALLEST, VGG16, lpips


def clip(frames=3, size=80):
    return torch.randint(256, (frames, size, size + 8, 3), generator=torch.manual_seed(0)).byte()


def net(slices=ALEXNET):
    """Random, with weights of channels that are not negative, as in the trained ones."""
    torch.manual_seed(1)
    made = LPIPS(slices).requires_grad_(False)
    for name, p in made.named_parameters():
        if name.startswith("lin"):
            p.abs_()
    return made


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_it_is_the_package_s(tmp_path, kind):
    theirs = pytest.importorskip("lpips").LPIPS(net=kind, pnet_rand=True, verbose=False).eval()
    save_model(theirs, str(tmp_path / "lpips.safetensors"))
    frames = clip()
    x = frames.permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        expected = float(theirs(x[:-1], x[1:]).mean())
    assert expected > 1e-4
    found = lpips(load_lpips(tmp_path / "lpips.safetensors"), frames)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("slices", "told"), [(ALEXNET, 0.0943291), (VGG16, 0.0756469)])
def test_what_the_package_told_of_the_same_weights(slices, told):
    """Version 0.1.4, whose result was the same to the last bit. Other machines round otherwise."""
    assert lpips(net(slices), clip()) == pytest.approx(told, rel=1e-4)


@pytest.mark.parametrize("slices", [ALEXNET, VGG16])
def test_a_still_clip_has_no_distance_and_a_small_change_little(slices):
    still = clip(1).expand(2, -1, -1, -1)
    near = torch.cat([still[:1], (still[1:].int() + 1).clamp(max=255).byte()])
    found = [lpips(net(slices), frames) for frames in (still, near, clip(2))]
    assert found[0] == 0
    assert 0 < found[1] < 0.1 * found[2]


def test_one_slice_by_hand():
    """Features (3, 4) and (4, 3) are normalised to fifths: 2 (1/5)^2, weighted by 5 and 10."""
    made = net()
    a, b = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])
    made.lin0.model[1] = torch.nn.Conv2d(2, 1, 1, bias=False).requires_grad_(False)
    made.lin0.model[1].weight.data = torch.tensor([5.0, 10.0]).view(1, 2, 1, 1)
    maps = [(x / 5).view(1, 2, 1, 1) for x in (a, b)]
    assert float(made.distance(maps[:1], maps[1:])) == pytest.approx(15 / 25)


def test_evaluate_tells_it(tmp_path, capsys):
    save_file(net().state_dict(), tmp_path / "lpips.safetensors")
    media.save(tmp_path / "a.webp", clip(), 8, {})
    words = [str(tmp_path / "a.webp"), "--lpips", str(tmp_path / "lpips.safetensors")]
    assert evaluate.main(words) == 0
    line = capsys.readouterr().out.splitlines()[-1].split()
    assert line[0] == "lpips"
    assert float(line[1]) == pytest.approx(lpips(net(), clip()), abs=1e-3)
    media.save(tmp_path / "small.webp", clip(size=SMALLEST - 8), 8, {})
    assert evaluate.main([str(tmp_path / "small.webp"), *words[1:]]) == 2
    assert f"smaller than {SMALLEST} pixels" in capsys.readouterr().err


def test_other_files_are_refused(tmp_path):
    for name in ("a", "net.slice1.0.weight"):
        save_file({name: torch.tensor(0.0)}, tmp_path / "other.safetensors")
        with pytest.raises(InputError, match="holds no LPIPS"):
            load_lpips(tmp_path / "other.safetensors")
    state = net().state_dict()
    del state["lin2.model.1.weight"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=r"lin2\.model\.1\.weight"):
        load_lpips(tmp_path / "part.safetensors")
