"""The options of `sample`, in one table: the parser is made of it, and so is what `inspect` prints.

An option that shapes a clip is stored in the clip's settings under its own name, and `inspect`
turns it back into the command line. To add one, add a row, and use it where it belongs.
"""

from pathlib import Path

from zs2.cli.option import Option, limit, size, values
from zs2.cli.terminal import Help, Parser
from zs2.version import __version__

EXAMPLES = """\
examples:
  python -m zs2.sample "a small red ball on green grass"
  python -m zs2.sample "two big blue stars at night" --lam 0.02 --frames 16 -o stars.gif
  python -m zs2.sample "a bear dancing on the street" -m v1-5-pruned-emaonly.safetensors
  python -m zs2.sample "a heart in the snow" --frames 1 --count 12 --sheet hearts.png
  python -m zs2.sample "a red ball at night" --init photo.jpg --strength 0.6 -o ball.mp4

Frame 1 of a clip is the still of the same seed: find a still you like, then animate it.
More motion: raise --lam. Steadier looks: raise --mu. A clip that repeats: --loop.
"""


MODEL = (
    Option(
        "-m --model", "PATH", "a folder, a .safetensors file or a hub id (default: the small model)"
    ),
    Option(
        "--prediction",
        "KIND",
        "what the model predicts, epsilon or v (default: what its files say)",
        ("epsilon", "v"),
    ),
    Option("--tokenizer", "DIR", "folder with CLIP's vocabulary, for single files"),
    Option("--vae", "PATH", "another VAE: a folder, a file, or TAESD's decoder, which is fast"),
    Option(
        "--lora",
        "FILE[:WEIGHT]",
        "a LoRA's file, folder or hub id, and how much of it (default: 1); repeatable",
        repeat=1,
    ),
    Option(
        "--embedding",
        "FILE[:WORD]",
        "words that textual inversion learnt: the file's own, or WORD; repeatable",
        repeat=1,
    ),
    Option(
        "--prompt-weights",
        "HOW",
        "what (this:1.3) does: a1111 (default, most prompts are written for it), comfy or plain",
        ("a1111", "comfy", "plain"),
    ),
    Option(
        "--clip-skip",
        "N",
        "read the prompt off the Nth last layer of its encoder (default: the model's)",
        int,
    ),
)
PICTURE = (
    Option("-n --negative", "TEXT", "what to steer away from"),
    Option("--size", "N|WxH", "in pixels (default: the model's)", size),
    Option("-s --steps", "N", "denoising steps (default: the model's)", int),
    Option("--cfg", "X", "guidance scale, 1 is none (default: the model's)", values),
    Option("--seed", "N", "default: a random one, printed", int),
    Option(
        "--sampler",
        "NAME",
        "ddim (default), euler, euler-a, dpm++2m, dpm++2m-sde, unipc or lcm",
        ("ddim", "euler", "euler-a", "dpm++2m", "dpm++2m-sde", "unipc", "lcm"),
    ),
    Option(
        "--schedule",
        "NAME",
        "noise levels: leading, trailing, linspace, normal, sgm-uniform, simple, karras, "
        "exponential, kl-optimal, ays or lcm (default: what goes with the sampler)",
        (
            *("leading", "trailing", "linspace", "normal", "sgm-uniform", "simple", "karras"),
            *("exponential", "kl-optimal", "ays", "lcm"),
        ),
    ),
    Option(
        "--rng",
        "NAME",
        "seeds make the pictures of zs2 (default), cpu (ComfyUI, diffusers) or cuda (A1111)",
        ("zs2", "cpu", "cuda"),
    ),
)
PROMPT_AT = Option("--prompt-at", "FRAME TEXT", "travel to this prompt; repeatable", repeat=2)
MOTION = (
    Option("--frames", "N", "1 is a still (default: 8, or as many as a video has)", int),
    Option(
        "--lam --lambda",
        "X",
        "motion: KL between frames' noise, from 0 to inf (default: 0.01)",
        values,
    ),
    Option(
        "--mu",
        "X",
        "steadiness: momentum of attention; 0 is frame by frame, 1 looks at frame 1 only "
        "(default: 0.98; --loop: 1)",
        values,
    ),
    Option(
        "--inertia",
        "X",
        "smoothness: how long a direction of the noise lasts, 0..1; 0 is the paper's walk "
        "(default: 0.95)",
        values,
    ),
    Option(
        "--segment", "M", "attention begins anew every M frames, as in the paper's long clips", int
    ),
    Option(
        "--fps-mult",
        "N",
        "N times the frames a second: others between those that are there",
        int,
    ),
    Option(
        "--camera",
        "MOVES",
        "move the picture each frame, as pan=2,0 zoom=1.02 roll=1 (pixels, factor, degrees)",
    ),
    Option("--loop", "", "the last frame leads back to the first", stored=False),
    PROMPT_AT,
    Option(
        "--noise",
        "KIND",
        "dependency (default), independent, mixed, progressive or loop",
        ("dependency", "independent", "mixed", "progressive", "loop"),
    ),
    Option(
        "--alpha",
        "X",
        "share of mixed or progressive noise kept (default: as of lam 0.01)",
        values,
    ),
    Option("--candidates", "K", "noises tried for each frame (default: 10)", int),
    Option(
        "--select",
        "RULE",
        "which candidate is taken: unbiased (default), or paper, whose noise drifts",
        ("unbiased", "paper"),
    ),
    Option(
        "--search",
        "RULE",
        "how the share that is kept is found: exact (default), or iterative, the paper's",
        ("exact", "iterative"),
    ),
)
SOURCE = (
    Option(
        "--init", "PATH", "start from a picture, a video or a folder of frames, not noise", Path
    ),
    Option(
        "--strength", "X", "how much of --init may change, 0..1 (default: 0.6; --invert: 1)", float
    ),
    Option("--mask", "PATH", "only what is white here may change of --init", Path),
    Option("--mask-strength", "X", "how much what is black may change, below --strength", float),
    Option("--invert", "", "start from the noise that leads to --init: keeps its layout"),
    Option("--edit", "PATH", "the prompt is an instruction: for Instruct-Pix2Pix models", Path),
    Option("--image-cfg", "X", "how near an edit stays to its frames (default: 1.5)", float),
    Option(
        "--method",
        "NAME",
        "a rival: text2video-zero, or ddim, frame by frame",
        ("text2video-zero", "ddim"),
    ),
)
CONTROL = (
    Option(
        "--control",
        "NET FRAMES",
        "a ControlNet, Control-LoRA or T2I-Adapter (file, folder or hub id), and a video, picture "
        "or folder of its maps; "
        "repeatable",
        repeat=2,
    ),
    Option(
        "--control-weight",
        "W",
        "how strongly, 0..10 (default: 1); once for all controls, or once for each",
        repeat=1,
    ),
    Option(
        "--control-span",
        "START END",
        "from which to which share of the steps (default: 0 1); once for all, or for each",
        float,
        repeat=2,
    ),
    Option(
        "--canny",
        "LOW,HIGH",
        "the maps are the edges of FRAMES, as 100,200; once for all, or for each, no for none",
        repeat=1,
    ),
    Option("--ip-adapter", "FILE", "with --image: the adapter that shows it to the model", Path),
    Option("--image", "PATH", "a picture as a prompt beside the words", Path),
    Option(
        "--image-weight",
        "X",
        "how much --image counts: 1 (default), and 0.5 leaves more to the words",
        float,
    ),
    Option(
        "--image-encoder",
        "PATH",
        "the CLIP vision encoder that --ip-adapter needs (default: image_encoder beside it)",
        Path,
    ),
)
OUTPUT = (
    Option(
        "-o --output",
        "FILE",
        ".mp4 .gif .webp, or .png, a folder for a clip (default: named after prompt and seed)",
        Path,
        stored=False,
    ),
    Option("--fps", "X", "frames a second (default: 8, or a video's own)", float),
    Option("--overwrite", "", "replace the file if it exists", stored=False),
    Option("--skip-existing", "", "leave out what is there already", stored=False),
    Option(
        "--prompts-file",
        "FILE",
        "one prompt a line: a clip of each; # begins a comment",
        Path,
        stored=False,
    ),
    Option("--count", "N", "make N, with seeds that follow each other", int, 1, stored=False),
    Option("--sheet", "FILE", "a .png of all first frames with their seeds", Path, stored=False),
    Option("--preview", "FILE", "a .png of the clip so far, every 5 steps", Path, stored=False),
    Option("--preview-vae", "PATH", "a VAE for --preview alone: TAESD is fast", stored=False),
)
SPEED = (
    Option("--chunk", "N", "frames computed at a time: same clip, less memory", int),
    Option("--split-guidance", "", "guidance branches one after the other"),
    Option("--tile", "PIXELS", "decode in tiles, as 512: large frames in little memory", int),
    Option(
        "--max-memory",
        "SIZE",
        "choose the above to fit, as 6GB for model and clip; auto: what is free",
        limit,
        stored=False,
    ),
    Option(
        "--deepcache",
        "N",
        "the UNet's inner levels at every Nth step only: faster; not with --control or --graph",
        int,
    ),
    Option("--int8", "", "weights in 8 bits: the model in a third of the memory of fp32"),
    Option("--compile", "", "torch.compile: a slow start, then faster steps", stored=False),
    Option("--graph", "", "on a CUDA device, replay the steps as a CUDA graph", stored=False),
    Option(
        "--dtype", "TYPE", "auto (default), fp32, bf16 or fp16", ("auto", "fp32", "bf16", "fp16")
    ),
    Option("--device", "NAME", "auto (default), cpu, cuda, cuda:N or mps", stored=False),
)
STREAM = (
    Option("--stream", "", "a chunk (of 8) through all steps, then the next: memory stays small"),
    Option("--keep-state", "DIR", "keep in files what the next chunk needs", Path, stored=False),
    Option("--resume", "", "go on from --keep-state where there is one", stored=False),
    Option("--host-state", "", "keep it in the host's memory, not in the GPU's", stored=False),
    Option("--half-state", "", "keep it in half the bytes: close, and not exact"),
)
GROUPS = {
    "model": MODEL,
    "picture": PICTURE,
    "motion": MOTION,
    "from pictures and videos": SOURCE,
    "control": CONTROL,
    "output": OUTPUT,
    "speed and memory": SPEED,
    "clips without end": STREAM,
}
NOTES = {
    "motion": """\
--lam, --inertia, --mu, --alpha, --cfg and --control-weight may differ by frame: --frames 4
--lam 0,0.1,0.1,0.2 or key frames, with straight lines between: --lam "0:(0.01), 24:(0.1)\"""",
}
TABLE = tuple(option for rows in GROUPS.values() for option in rows)


def build_parser() -> Parser:
    parser = Parser(
        prog="python -m zs2.sample",
        usage='%(prog)s "PROMPT" [options]',
        description="Make a video from a prompt with any Stable Diffusion checkpoint.",
        epilog=EXAMPLES,
        formatter_class=Help,
        allow_abbrev=False,  # --prompt is not --prompts-file
    )
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what to show")
    parser.add_argument("--version", action="version", version=f"zs2 {__version__}")
    parser.add_argument("-p", "--prompt", dest="named", metavar="PROMPT", help="the same, by name")
    for title, rows in GROUPS.items():
        group = parser.add_argument_group(title, NOTES.get(title))
        for option in rows:
            option.add_to(group)
    return parser
