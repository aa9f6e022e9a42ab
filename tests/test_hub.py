"""Where a model's name leads: paths, and a hub that is served on this machine's loopback."""

import errno
import functools
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from zs2.checkpoint.hub import _why_no_download, pick, resolve
from zs2.errors import InputError


@pytest.mark.parametrize(
    "name",
    [
        "./a",
        "./a/b",
        "a/..",
        "../a",
        "-a/b",
        "caf\u00e9/b",
        "/a/b",
        "~/a/b",
        "a/b/c",
        "a",
        "a/b.safetensors",
        "a/b.pt",
        "~nobody-of-this-name/x",
        "x" * 300,
    ],
)
def test_what_looks_like_a_path_is_not_looked_up(name):
    with pytest.raises(InputError, match="does not exist"):
        resolve(name)


def test_an_existing_path_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner/name").mkdir(parents=True)
    assert resolve("owner/name") == Path("owner/name")


def test_of_sdxl_both_text_encoders_are_needed():
    files = [
        "model_index.json",
        "sd_xl_base_1.0.safetensors",
        "text_encoder/model.onnx",
        "text_encoder/model.safetensors",
        "text_encoder_2/config.json",
        "text_encoder_2/model.fp16.safetensors",
        "text_encoder_2/model.safetensors",
        "text_encoder_2/openvino_model.bin",
        "tokenizer_2/merges.txt",
        "tokenizer_2/special_tokens_map.json",
        "tokenizer_2/vocab.json",
        "vae_1_0/diffusion_pytorch_model.safetensors",
    ]
    assert pick(files) == [
        "model_index.json",
        "text_encoder/model.safetensors",
        "text_encoder_2/config.json",
        "text_encoder_2/model.safetensors",
        "tokenizer_2/merges.txt",
        "tokenizer_2/special_tokens_map.json",
        "tokenizer_2/vocab.json",
    ]


def test_only_the_files_that_are_needed():
    files = [
        "README.md",
        "v1-5-pruned.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "safety_checker/model.safetensors",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "scheduler/scheduler_config.json",
    ]
    assert pick(files) == [
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]


def in_a_fresh_process(code: str, **environment: str) -> str:
    """huggingface_hub reads its settings when it is imported."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


RESOLVE = """
from zs2.checkpoint.hub import resolve
from zs2.errors import InputError
try:
    print(resolve("owner/model"))
except InputError as error:
    print("refused:", error)
"""

FILES = {
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": b"weights",
    "unet/diffusion_pytorch_model.bin": b"pickle",
    "tokenizer/vocab.json": b"{}",
    "README.md": b"not needed",
}


BROKEN = "unet/diffusion_pytorch_model.safetensors"


class Hub(BaseHTTPRequestHandler):
    """Just enough of the hub's protocol for one repository, owner/model."""

    asked: list[str]
    files: dict[str, bytes | str | None]  # bytes; or the hub's code of an error
    commit = "0" * 40

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        commit = self.commit
        if self.path.startswith("/api/models/owner/model/tree/"):
            tree = [
                {"type": "file", "path": k, "size": len(v or ""), "oid": "0"}
                for k, v in self.files.items()
            ]
            body = json.dumps(tree).encode()
        elif self.path.startswith("/api/models/owner/model"):
            siblings = [{"rfilename": name} for name in self.files]
            body = json.dumps({"id": "owner/model", "sha": commit, "siblings": siblings}).encode()
        else:
            body = self.files.get(self.path.removeprefix(f"/owner/model/resolve/{commit}/"))
        self.send_response(200 if isinstance(body, bytes) else 403 if body else 404)
        if not isinstance(body, bytes):
            self.send_header("X-Error-Code", body or "RepoNotFound")
            body = b""
        self.send_header("ETag", hashlib.sha256(body).hexdigest())
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(request) -> Iterator[tuple[str, list[str]]]:
    """Address of the hub, and what it was asked for; its files may be given as a parameter."""
    asked: list[str] = []
    handler = type("Handler", (Hub,), {"asked": asked, "files": getattr(request, "param", FILES)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=functools.partial(server.serve_forever, 0.05))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_only_what_is_needed_is_downloaded_and_kept(hub, tmp_path):
    endpoint, asked = hub
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)}
    folder = Path(in_a_fresh_process(RESOLVE, **settings).splitlines()[-1])
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    unneeded = {"unet/diffusion_pytorch_model.bin", "README.md"}
    assert found == {k: v for k, v in FILES.items() if k not in unneeded}
    # Offline, the cache is enough, and nobody is asked.
    count = len(asked)
    again = in_a_fresh_process(RESOLVE, **settings, HF_HUB_OFFLINE="1")
    assert again.splitlines()[-1] == str(folder)
    assert len(asked) == count


def test_a_repository_that_is_not_there(hub, tmp_path):
    code = RESOLVE.replace("owner/model", "owner/typo")
    text = in_a_fresh_process(code, HF_ENDPOINT=hub[0], HF_HOME=str(tmp_path))
    assert "refused: owner/typo is neither a path here nor an open repository" in text


@pytest.mark.parametrize("hub", [{"community.safetensors": b"", "README.md": b""}], indirect=True)
def test_a_repository_of_single_files_is_told(hub, tmp_path):
    text = in_a_fresh_process(RESOLVE, HF_ENDPOINT=hub[0], HF_HOME=str(tmp_path))
    assert text == (
        "refused: owner/model holds no unet/config.json: "
        "download its community.safetensors and give the path\n"
    )


@pytest.mark.parametrize(
    "hub", [{k: v for k, v in FILES.items() if k != BROKEN} | {BROKEN: None}], indirect=True
)
def test_a_download_that_breaks_off_is_told(hub, tmp_path):
    text = in_a_fresh_process(RESOLVE, HF_ENDPOINT=hub[0], HF_HOME=str(tmp_path))
    assert text.startswith("refused: the download of owner/model broke off")
    assert text.endswith("run it again, and it goes on from there\n")


@pytest.mark.parametrize("hub", [{**FILES, BROKEN: "GatedRepo"}], indirect=True)
def test_a_gated_repository_whose_listing_is_open(hub, tmp_path):
    text = in_a_fresh_process(RESOLVE, HF_ENDPOINT=hub[0], HF_HOME=str(tmp_path))
    assert text == (
        "refused: owner/model is gated: accept its terms on its page of the hub, then log in "
        "(`hf auth login`, or a token in HF_TOKEN)\n"
    )


def test_a_commit_is_no_path(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(Hub, "commit", "../../../outside")
    text = in_a_fresh_process(RESOLVE, HF_ENDPOINT=hub[0], HF_HOME=str(tmp_path))
    assert text.startswith("refused: owner/model is not on this machine")
    assert not any("resolve" in path for path in hub[1])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "full"), "the disk is full, make room or set HF_HOME"),
        (RuntimeError("x: No space left on device (os error 28)"), "the disk is full"),
        (PermissionError(errno.EACCES, "no"), "you may not write there, set HF_HOME"),
        (ConnectionError("x"), r"broke off \(RuntimeError\): run it again"),
    ],
)
def test_why_a_download_failed(error, message):
    outer = RuntimeError("of a thread")
    outer.__cause__ = error
    assert re.search(message, _why_no_download("owner/model", outer))


def test_a_hub_that_answers_byte_by_byte_is_not_waited_for(tmp_path):
    """Each byte comes in time, and there is no end of them."""

    def drip(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not ended.wait(0.05):
                    connection.sendall(b"x")
            except OSError:  # the other side has gone, or the test is over
                if ended.is_set():
                    return

    code = "import zs2.checkpoint.hub; zs2.checkpoint.hub._DEADLINE = 0.5\n" + RESOLVE
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        text = in_a_fresh_process(code, HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path))
        ended.set()
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert text.startswith("refused: owner/model is not on this machine")
    assert "TimeoutError" in text


def test_a_hub_that_never_answers_is_one_sentence(tmp_path):
    code = "import zs2.checkpoint.hub; zs2.checkpoint.hub._TIMEOUT = 0.1\n" + RESOLVE
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        text = in_a_fresh_process(code, HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path))
    assert text.startswith("refused: owner/model is not on this machine")


def test_offline_is_one_sentence(tmp_path):
    text = in_a_fresh_process(RESOLVE, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert text.startswith("refused: owner/model is not on this machine")
    assert text.count("\n") == 1


def test_an_unreachable_hub_is_one_sentence(tmp_path):
    text = in_a_fresh_process(RESOLVE, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path))
    assert "refused: owner/model is not on this machine" in text
