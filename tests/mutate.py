"""Do the tests notice? Lines of zs2 made wrong, one at a time, and the tests that should fail.

    python -m tests.mutate              all of them: about half an hour on one core
    python -m tests.mutate schedule     those with the word in the file's name or the new text

Each is tried in a copy of the tree. Told is which mutants were killed and which survived: lines
that no test holds. To add one, write down a text that occurs once in the file, and what it becomes.

Not in the list, as no result tells: what only saves time or memory (copies that make values
adjacent, block sizes, where states lie), what a mask throws away, ties, and what needs a GPU.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


# A file, the tests that should fail (`test_` left out), and what becomes what.
MUTATIONS = [
    (
        "metrics/flow.py",
        "metrics_flow",
        [
            ("d = 2 * F.interpolate(d", "d = F.interpolate(d"),
            ("r[:, 5] / 2", "r[:, 5]"),
            ("(r1[:, i] - there[:, i] * inside) / 2", "(r1[:, i] - there[:, i] * inside)"),
            ("bx = bx + xx * d[:, 0] + xy * d[:, 1]", "bx = bx + xx * d[:, 0]"),
            ("side[-n:] *= low[:n].flip(0)", "pass"),
            ("flow(grey(b)[None], grey(a)[None])", "flow(grey(a)[None], grey(b)[None])"),
            ("(torch.stack(off) + 0.1 * rough)", "(torch.stack(off) + rough)"),
            ("(left > JUMP)", "(left > 0)"),
        ],
    ),
    (
        "metrics/structure.py",
        "metrics_structure",
        [
            ("(whole if last else structure)", "whole"),
            ("padding=[side % 2 for side in z.shape[2:]]", "padding=0"),
            ("if smaller < SMALLEST:", "if False:"),
        ],
    ),
    (
        "metrics/clip.py",
        "metrics_clip",
        [
            ("x.to(device) / 127.5 - 1", "x.to(device) / 255"),
            ("covering(x[None], side, side)", "x[None]"),
            ("- cosines.diagonal().sum()", ""),
        ],
    ),
    (
        "metrics/differences.py",
        "evaluate metrics",
        [
            ("permute(2, 0, 1).float(), 4)", "permute(2, 0, 1).float(), 2)"),
            ("return motion(calm(frames))", "return motion(frames)"),
        ],
    ),
    (
        "metrics/normal.py",
        "metrics_normal",
        [
            ('"above": 1.0}', '"above": 99.0}'),
            ('"kurtosis": 24.0', '"kurtosis": 1e9'),
            ("x[..., 1:, :] * x[..., :-1, :]", "x[..., 1:] * x[..., :-1]"),
        ],
    ),
    (
        "noise_camera.py",
        "noise_camera",
        [
            ("@ turn / self.zoom**2 + middle", "@ turn.T / self.zoom**2 + middle"),
            ("- self.off[near] + HALF", "+ HALF"),
            ("v[..., taken] / n[taken].sqrt() +", "v[..., taken] +"),
            ("(z - sums[..., taken] / n[taken])", "0 * z"),
            ("self.off = off", "pass"),
            ("(row * w + column).where(inside, -1)", "row * w + column"),
            ("None if turned is None else self.warped(turned, drawn[:, 1], source)", "turned"),
            ("self.warped(turned, drawn[:, 1]", "self.warped(turned, drawn[:, 0]"),
            ("[[cos, sin], [-sin, cos]]", "[[cos, -sin], [sin, cos]]"),
            ("step=draws.step + FRESH", "step=draws.step"),
        ],
    ),
    (
        "shots/camera.py",
        "noise_camera",
        [
            ("Move(x[i] / side, y[i] / side", "Move(x[i], y[i]"),
            ("if begin.strip() or not names", "if not names"),
        ],
    ),
    (
        "shots/mask.py",
        "shots_mask",
        [
            ("shot.levels[-1 - run :]", "shot.levels[-run:]"),
            ("x0 if level in free else", ""),
        ],
    ),
    (
        "wavefront.py",
        "wavefront",
        [
            (
                "wire.send((rank + 1) % ranks, states)",
                "wire.send((rank + 1) % ranks, predictor.nothing())",
            ),
            ("expected[0][0] < number", "expected[0][0] < number - 1"),
            ('"gloo" in str(error)', "False"),
            ("self.sent.append((work, tensor))", "pass"),
        ],
    ),
    (
        "shots/between.py",
        "shots_between",
        [
            ("mu += [given, *[1.0] * (times - 1)]", "mu += [given] * times"),
            ("(share * angle).sin() * y", "share * angle.sin() * y"),
            ("if i + 1 < frames or loop:", "if i + 1 < frames:"),
            ("start - first * times : stop - first * times", ": stop - start"),
            ("enumerate(j // times for", "enumerate(j for"),
            ("b.condition.over_frames(lines)", "b.condition"),
            ("if frames == self.times * self.frames and", "if False and"),
        ],
    ),
    (
        "enhance.py",
        "enhance",
        [
            ("made[:: args.fps_mult] = media", "_ = media"),
            ("before * args.fps_mult", "args.fps_mult"),
            ('"fps": fps * args.fps_mult', '"fps": fps'),
        ],
    ),
    (
        "attention.py",
        "pipeline unet attention",
        [
            ("mu[first] = 0.0", "pass"),
            ("range(0, frames, self.segment or frames)", "range(1)"),
            ('whole("segment", self.segment, 2)', "pass"),
            ("if any(mu) else None", "if mu else None"),
            ("if any(mu) else None", "if all(mu) else None"),
            ("self.before.get(norm) if self.before else None", "None"),
            ("self.mu, initial, norm.eps,", "self.mu, initial, 1e-5,"),
            ("norm.eps, self.keep, out=initial", "norm.eps, self.keep"),
            ("return h, h", "return h, x"),
            ('check_range("mu", self.mu, 1)', "pass"),
        ],
    ),
    (
        "checkpoint/deltas.py",
        "deltas",
        [
            ("return alpha / rank if alpha else 1.0", "return alpha / rank"),
            ("_scale(parts, len(down))", "_scale(parts, len(up))"),
            ('"mnxy,im,nj->ijxy", middle', '"nmxy,im,nj->ijxy", middle'),
            ('"mnxy,mi,nj->ijxy", core', '"nmxy,mi,nj->ijxy", core'),
            ("* one * two", "* (one + two)"),
            ('rank or "scale" in parts else 1.0', "True else 1.0"),
            ("torch.kron(small, large.contiguous())", "torch.kron(large.contiguous(), small)"),
            ("(a1, a2), (b1, b2) = (a2, a1), (b2, b1)", "pass"),
            ('parts["alpha"].item() * len(weight)', 'parts["alpha"].item()'),
            ("q * (limit / q.norm())", "q"),
            ("turn.transpose(1, 2) @", "turn @"),
            ("columns = bool(", "columns = not bool("),
            ("kept = 0 if len(m) == len(v) else 1", "kept = 0"),
            ("_decomposed(weight + made, parts)", "_decomposed(weight, parts)"),
            ('return _fitted(parts["set"], weight) - weight', 'return parts["set"] - weight'),
        ],
    ),
    (
        "checkpoint/lora_file.py",
        "lora_file",
        [
            ("alpha / rank**0.5 if", "alpha / rank if"),
            ('of("r") if rank is None else rank', 'of("r")'),
            ('(of("lora_alpha") or of("alpha")) if alpha is None else alpha', 'of("lora_alpha")'),
            ('{"alpha", "scale"} & taken.keys()', "True"),
            ("is not None\n        ):", "is None\n        ):"),
            ("and (place.network, target) not in made", ""),
            ("spare += left.values()", "pass"),
            ("if count != len(order[name]):", "if False:"),
        ],
    ),
    (
        "checkpoint/lora_names.py",
        "lora_names lora_file",
        [
            ('"q_proj": "to_q", "k_proj": "to_k"', '"q_proj": "to_k", "k_proj": "to_q"'),
            ('inside = ["k_proj", "v_proj", "q_proj"', 'inside = ["q_proj", "k_proj", "v_proj"'),
            ('blocks.sort(key=lambda name: name.startswith("mid_block"))', "pass"),
            ('if name.endswith(".to_out.0"):', "if False:"),
            ("names += [name.removeprefix", "_ = [name.removeprefix"),
            (r'r"[._]processor(?=[._])"', r'r"[.]processed(?=[._])"'),
            (r"_B(?:\.(?!bias)\w+)?", r"_B(?:\.\w+)?"),
        ],
    ),
    (
        "checkpoint/lora.py",
        "lora lora_file adapters",
        [
            ("{id(tensor): tensor for tensor in model.parameters()}", "{}"),
            ("if source.strength:", "if True:"),
            ("total += source.strength *", "weight = weight + source.strength *"),
            ("weight = old.float()", "weight = old"),
            ("torch.empty_like(old).copy_(weight + total)", "(weight + total).to(old.dtype)"),
            ("check_family(file.path, file.kind, family)", "pass"),
            ("if not found:", "if False:"),
            ("if not merged.isfinite().all():", "if False:"),
            ("if not made.isfinite().all():", "if False:"),
            ("or local_path(text) is not None", ""),
            ("-STRONGEST)", "0)"),
            ('"lora": [*before, *map(str, self.sources)]', '"lora": before'),
        ],
    ),
    (
        "condition.py",
        "condition",
        [
            ("lambda x: x[:, start:stop]", "lambda x: x[:, : stop - start]"),
            ("channels=changed(self.channels, 5)", "channels=self.channels"),
            ("added=changed(self.added, 3)", "added=self.added"),
            ("change(x) if x.shape[1] > 1 else x", "x"),
            ("if x.shape[1] > 1 else x", "if x.shape[1] > 0 else x"),
            ("all(part is parts[0] for part in parts)", "True"),
            ("if len({len(c.control) for c in conditions}) > 1:", "if False:"),
            ("(p.shape[1] for p in parts", "(p.shape[2] for p in parts"),
            ("p[:, None].expand", "p.expand"),
            ("torch.cat(channels) if", "torch.cat(channels[::-1]) if"),
            ("return torch.cat(parts)", "return torch.cat(parts[::-1])"),
            ("_joined(as_long([c.prompt for c in conditions]), 4)", "conditions[0].prompt"),
            ("math.lcm(*lengths)", "max(lengths)"),
            ("tokens // n, 1)", "1, tokens // n)"),
            ("if tokens > LONGEST:", "if False:"),
        ],
    ),
    (
        "denoise.py",
        "denoise graph pipeline",
        [
            ('whole("chunk", self.chunk, 1)', 'whole("chunk", self.chunk, 0)'),
            ('"split-guidance": not self.together', '"split-guidance": self.together'),
            ("* x0) / (1 - level.alpha_bar) ** 0.5", "* x0) / (1 - level.alpha_bar)"),
            ("if step == steps and shot.correct:", "if step == 1 and shot.correct:"),
            ("x0 = shot.correct(x0, start, stop,", "shot.correct(x0, start, stop,"),
            ("latents = shot.correct(latents, start,", "shot.correct(latents, start,"),
            ("return shot.noise(start, stop, step)", "return shot.noise(start, stop)"),
            ("times[level.t]), level)", "times[level.t]), shot.levels[0])"),
            ("x = shot.start(start, stop)", "x = shot.noise(start, stop)"),
            ("shot.levels[broken - 1].t", "shot.levels[broken].t"),
            (
                "for b in shot.branches], device=device)",
                "for b in shot.branches], device=device).bfloat16()",
            ),
            ("self.weights[:, None, start:stop,", "self.weights[:, None, : stop - start,"),
            ("else self.mu[start:stop]", "else self.mu[: stop - start]"),
            ("rows.repeat(size, 1, 1, 1, 1)", "rows.repeat_interleave(size, 0)"),
            ("condition.at(start, stop), share)", "condition.at(0, stop - start), share)"),
            ("g, f = len(self.weights), stop - start", "g, f = len(self.weights), 2"),
            (
                "prediction = torch.empty_like(x)",
                "prediction = torch.empty_like(x, dtype=predictor.dtype)",
            ),
            ("new = (self.first == 0) & ~", "new = ~"),
            ("~x.isfinite().all()", "x.isnan().any()"),
            ("if chunk < shot.frames else None", "if chunk <= shot.frames else None"),
            ("shot.branches[0].condition.prompt.dtype,\n", "x.dtype,\n"),
            (
                "torch.tensor(ts, device=x.device)",
                "torch.tensor([int(t) for t in ts], device=x.device)",
            ),
            ("chunk = self.chunk or shot.frames", "chunk = shot.frames"),
            ("Graph(predict, device) if self.graph else predict", "predict"),
        ],
    ),
    (
        "stream.py",
        "stream",
        [
            ("if call == len(kept):", "if call == 0 and not kept:"),
            ("call = next(calls)", "call = 0"),
            ("min(start + self.chunk, shot.frames)", "start + self.chunk"),
            ("step == steps)", "step == 1)"),
            ("number * steps + step, ", "step, "),
            ("predictor(x, t, start, states)", "predictor(x, t, 0, states)"),
        ],
    ),
    (
        "draws.py",
        "draws",
        [
            (
                "dtype=torch.float64, device=base.device)",
                "dtype=torch.float32, device=base.device)",
            ),
            (
                "(value, zero + frame, candidate, zero + self.step)",
                "(value, candidate, zero + frame, zero + self.step)",
            ),
            (
                "(value, zero + frame, candidate, zero + self.step)",
                "(value, zero + frame, candidate, zero)",
            ),
            ("if frame == 0 and self.rng", "if self.rng"),
            ("range(self.step + 1)", "range(1)"),
            ("(self.size,), self.step)", "(self.size,))"),
            ("return max(0.0, 1 - lam", "return abs(1 - lam"),
        ],
    ),
    (
        "estimate.py",
        "estimate",
        [
            ("(branches if order.together else 1)", "branches"),
            ("min(frames, order.chunk or frames)", "frames"),
            ("return max(unet, left + vae) + kept", "return unet + kept"),
            ("pixels = h * w * factor * factor", "pixels = h * w * factor"),
            ("kept = held * (", "kept = rows * ("),
        ],
    ),
    (
        "graph.py",
        "graph",
        [
            ("if self.calls < 3:", "if self.calls < 2:"),
            ("kept.copy_(x)", "pass"),
            ("tuple(torch.empty_like(x) for x in inputs)", "inputs"),
        ],
    ),
    (
        "metrics/differences.py",
        "metrics",
        [
            ("apart(a, b) for a, b in pairwise(frames)", "apart(frames[0], b) for b in frames[1:]"),
            ("picture // 64", "picture // 65"),
            ("r * 16 + g * 4 + b", "g * 16 + r * 4 + b"),
            ("histograms - histograms[0]", "histograms - histograms[-1]"),
            ("/ len(r)", "/ 64"),
        ],
    ),
    (
        "noise.py",
        "noise",
        [
            ("<= self.candidates <= 65535", "<= self.candidates < 65535"),
            ("0 <= seed < 2**63", "0 <= seed <= 2**63"),
            ("draws(0, candidates=2)[:, 1]", "draws(0, candidates=2)[:, 0]"),
            ("n, inertia**2)", "n, inertia)"),
            ("mix(m, -noise, alpha)", "mix(m, noise, alpha)"),
            ("iterative_search(a, b, lam)[-1]", "iterative_search(a, b, lam)[-2]"),
            (
                "a = (weight * previous).mean(-1, dtype=torch.float64)",
                "a = (weight * previous).mean(-1).double()",
            ),
            (
                "b = (weight[:, None] * fresh).mean(-1, dtype=torch.float64)",
                "b = (weight[:, None] * fresh).mean(-1).double()",
            ),
            ("min(lam, 1e6)", "lam"),
            ("clamp(-square.sqrt(), square.sqrt())", "clamp(-square, square)"),
            ("torch.where(independent, 0.0, c * c)", "c * c"),
            ("torch.where(improves, delta, delta / 2)", "delta / 2"),
            ("centred = centred - centred.mean(-1, keepdim=True)", "pass"),
            ("(p.exp() * (p - noise.double()))", "(noise.double().exp() * (p - noise.double()))"),
            ("if lam_i > 0:", "if True:"),
            ("if any(inertias) else None", "if all(inertias) else None"),
            ("steps: int = 15", "steps: int = 14"),
            ("trial) >= lam", "trial) >= 0"),
        ],
    ),
    (
        "noise_loop.py",
        "loop",
        [
            ("w.sqrt() * (turn.cos() - c)", "w.sqrt() * turn.cos()"),
            ("range(100)", "range(20)"),
            ("w[w > 1e-14]", "w[w > 1e-6]"),
            ("(k == 0) | (2 * k == frames)", "k == 0"),
        ],
    ),
    (
        "noise_rivals.py",
        "rivals",
        [
            ("mix(first, other, alphas[0])", "mix(first, other, alphas[-1])"),
            ("SHARE**2", "SHARE"),
        ],
    ),
    (
        "pipeline.py",
        "pipeline_settings pipeline pipeline_noise",
        [
            ("self.encode([negative] * clips, size)", 'self.encode([""] * clips, size)'),
            ("negative if len(branches) > 1 else None", "negative"),
            (
                "spacing or usual_spacing(sampler, schedule.timestep_spacing)",
                "spacing or schedule.timestep_spacing",
            ),
            ("schedule.levels(steps, spacing)", "schedule.levels(steps)"),
            ("self.device, rng, latents)", 'self.device, "zs2", latents)'),
            ("self.device, rng, latents)", "self.device, rng)"),
            ("{**told, **order.settings}", "told"),
            ('"cfg": plain(cfg)', '"cfg": cfg'),
            ("None if latents is None else OWN", "None"),
            ('getattr(noise, "MU", FrameAttention.mu)', "FrameAttention.mu"),
            ("if side % self.multiple", "if False"),
            ("/ 127.5 - 1", "/ 128 - 1"),
            ("torch.cat(means) * vae.config.scaling_factor", "torch.cat(means)"),
            ("latent / vae.config.scaling_factor", "latent / (1.01 * vae.config.scaling_factor)"),
            (".round().clamp(0, 255)", ".clamp(0, 255)"),
            ("if not pixels.isfinite().all():", "if pixels.isnan().all():"),
            (
                "clips[0] if isinstance(prompt, str) else clips",
                "clips[0] if len(clips) == 1 else clips",
            ),
            ("moment.steps, moment.x0)", "moment.steps, moment.x)"),
            (
                "self.weights.defaults, self.weights.schedule\n",
                "self.weights.defaults, type(self.weights.schedule)(beta_end=0.011)\n",
            ),
        ],
    ),
    (
        "asked.py",
        "pipeline_settings pipeline",
        [
            ("return kind() if value is None else kind(value)", "return kind()"),
            (
                "if value is None else kind(value)",
                "if value is None else kind(plain(value))",
            ),
            ("if len(each) != count:", "if False:"),
            ("secrets.randbelow(2**32)", "0"),
        ],
    ),
    (
        "shot.py",
        "pipeline_settings pipeline_noise pipeline",
        [
            ("for i in (self.frames - 1, 0)]", "for i in (0, 0)]"),
            ("self.attention.momenta(self.frames) is not None", "True"),
        ],
    ),
    (
        "samplers.py",
        "samplers",
        [
            ("down = there.sigma**2 / here.sigma", "down = there.sigma"),
            ("y = c_out * x0 + c_skip * x", "y = x0"),
            ("rho1 = (b1 - b2) / (1 - r)", "rho1 = (b1 - b2) / (1 + r)"),
            ("if 0 < i < final:", "if 0 < i <= final:"),
            ('own == "trailing" and sampler is not lcm', 'own == "trailing"'),
            ('unipc: "sgm-uniform"', 'unipc: "karras"'),
            ('dpm_2m_sde: "exponential"', 'dpm_2m_sde: "karras"'),
            (
                "x = y / there.scale\n        yield x, x0\n\n\ndef euler_ancestral",
                "x = y\n        yield x, x0\n\n\ndef euler_ancestral",
            ),
        ],
    ),
    (
        "schedule.py",
        "schedule samplers",
        [
            ("return 0.0 if self.t < 0 else", "return"),
            ("stride + schedule.steps_offset", "stride + 1"),
            ("round(total - i * total / n) - 1", "int(total - i * total / n) - 1"),
            ("[round(t) for t in normal(schedule, n)]", "[int(t) for t in normal(schedule, n)]"),
            ("1.0 if self.set_alpha_to_one else", "1.0 if not self.set_alpha_to_one else"),
            ("[-2 if self.rescale_betas_zero_snr else -1]", "[-1]"),
            ("and levels[0].alpha_bar == 0:", "and levels[-1].alpha_bar == 0:"),
            ("(1 - a) ** 0.5 * x\n", "(1 - a) ** 0.5 * x0\n"),
            ("min(max(part, 0), 1), 9)", "part, 9)"),
            ("min(50, schedule.num_train_timesteps)", "50"),
            ("(known - i * known // n) * stride", "((known * (n - i)) // n) * stride"),
        ],
    ),
    (
        "shot.py",
        "shot stream",
        [
            ('check_range("cfg", cfg, 10_000, -10_000)', "pass"),
            ("if all(s == 1 for s in scale):", "if scale[0] == 1:"),
            (
                "Branch(tuple(1 - s for s in scale), negative)",
                "Branch(tuple(s - 1 for s in scale), negative)",
            ),
            ("first.to(self.device, torch.float32)", "first.to(self.device)"),
            ("not in (expected, expected[1:])", "not in (expected, expected[1:], expected[2:])"),
            ("made_on, step, self.rng\n", "made_on, 0, self.rng\n"),
            ("made_on, step, self.rng\n", "made_on, step\n"),
            ("if step == 0 and self.own is not None:", "if self.own is not None:"),
            ("return self.own[:, start:stop]", "return self.own[:, : stop - start]"),
            ("if start < self.made and start not in self.kept:", "if False:"),
            ("if i >= start}", "if True}"),
            ("if step and stop == self.frames:", "if False:"),
            (
                "{**own, **told} for own in self.settings",
                "{**told, **own} for own in self.settings",
            ),
            ("motion(self.frames)", "flicker(self.frames)"),
            ("return flicker(self.frames)", "return motion(self.frames)"),
            ("self.fps if fps is None else fps", "fps or self.fps"),
        ],
    ),
    (
        "timeline.py",
        "timeline",
        [
            ("return str(value)", "return value"),
            ("* (frame - first) / (second - first)", "* (frame - first) / second"),
            ("isinstance(plain, bool) or not", "not"),
            ("if not low <= v <= high:", "if v < low or v > high:"),
            ("if start == stop:", "if False:"),
        ],
    ),
    (
        "kernels/momentum_scan.py",
        "momentum_scan",
        [
            ("if not (low >= 0 and high <= 1):", "if not low >= 0:"),
            ("if not (low >= 0 and high <= 1):", "if not high <= 1:"),
            ("if not (low >= 0 and high <= 1):", "if low < 0 or high > 1:"),
            ("isinstance(tensors, Tensor) or not tensors", "len(tensors) == 0"),
            ("if not isinstance(x, Tensor):", "if False:"),
            ("return torch.float64 if x.dtype", "return torch.float32 if x.dtype"),
            (" or tensors[0].dtype == torch.float64:", ":"),
            ("tuple(x.contiguous() for x in xs)", "xs"),
            ("tuple(state.contiguous() for state in initial)", "tuple(initial)"),
            (
                "            mu.float().contiguous(),\n            frames,",
                "            mu.float(),\n            frames,",
            ),
            ("copy=True).contiguous()", "copy=False).contiguous()"),
            ("at = i if PACKED else", "at = i if True else"),
            ("return x if x.stride(-1) == 1 or columns == 1 else x.contiguous()", "return x"),
            (
                "m = tl.where(f == 0, 0.0, m)\n                    state",
                "m = m\n                    state",
            ),
            ("(x[:, 0] if initial is None else initial)", "x[:, 0]"),
            ("enumerate(1 - mu.float())", "enumerate(1 - mu.to(x.dtype))"),
        ],
    ),
    (
        "kernels/norm_momentum_scan.py",
        "momentum_scan",
        [
            ("not seen and x.dtype != torch.float64", "not seen"),
            ("x = x if x.stride(-1) == 1 else x.contiguous()", "pass"),
            ("else initial.contiguous(),", "else initial,"),
            (
                "            mu.float().contiguous(),\n            eps,",
                "            mu.float(),\n            eps,",
            ),
            ("            weight.contiguous(),", "            weight,"),
            ("tl.rsqrt(variance + eps)", "tl.rsqrt(variance + 1e-5)"),
            ("final is None else out.copy_(final)", "final is None else final"),
            ("device=x.device) if out is None else out", "device=x.device)"),
            ("x.shape[-1:], weight, bias, eps)", "x.shape[-1:], weight, bias)"),
            ("m = tl.where(f == 0, 0.0, m)", "m = m"),
            ("z1 = tl.load(bias + d, mask=d < COLUMNS, other=0.0)", "z1 = tl.load(bias + c)"),
            ("tl.sum(h0 * h0, 1) + tl.sum(h1 * h1, 1)", "tl.sum(h0 * h0, 1)"),
        ],
    ),
    (
        "kernels/group_norm.py",
        "group_norm",
        [
            ("tl.load(x + c).to(tl.float32)", "tl.zeros((1, COLUMNS), tl.float32)"),
            ("within / positions + between * between", "within / positions"),
            ("(moved - mean) * factor", "-mean * factor"),
            ("if SILU:", "if False:"),
            ("tl.where(n < positions, h - first, 0.0)", "h - first"),
        ],
    ),
    (
        "kernels/geglu.py",
        "geglu",
        [
            ("0.7071067811865476", "0.7"),
            ("x.contiguous())", "x)"),
            (
                "mask=n < rows, other=0.0).to(tl.float32)\n        h",
                "mask=n < 0, other=0.0)\n        h",
            ),
        ],
    ),
    (
        "kernels/noise_search.py",
        "noise_search",
        [
            ("nearest < least, start + best, chosen", "nearest < least, best, chosen"),
            ("nearest < least, value, b)", "True, value, b)"),
            ("least = tl.minimum(nearest, least)", "least = nearest"),
            (
                "distance = tl.where(k < candidates, distance,",
                "distance = tl.where(k < k + 1, distance,",
            ),
            ("tl.where(i < size, tl.exp(p), 0.0)", "tl.exp(p)"),
            ("mean = lasting + refresh * mean", "mean = refresh * mean"),
            ("keep * m - fresh * p", "keep * m + fresh * p"),
            ("tl.where(independent, 0.0, keep)", "keep"),
            ("min(lam, 1e6),", "lam,"),
            ("(b * tl.num_programs(1) + k) * size", "(b + k) * size"),
            ("lasting = inertia * tl.sum", "lasting = tl.sum"),
            ("turned = None if turned is None else turned.contiguous()", "pass"),
        ],
    ),
    (
        "kernels/philox.py",
        "philox draws",
        [
            ("clamp(min=1e-7)", "clamp(min=1e-9)"),
            ("torch.minimum(word, word ^ WORD)", "(word >> 1)"),
            ("(zero + offset, zero, value, zero)", "(zero, zero + offset, value, zero)"),
            ("word2.double() + 0.5", "word1.double() + 0.5"),
            ("(seed >> 32) & WORD", "(seed >> 31) & WORD"),
            ("ROUNDS = 10", "ROUNDS = 7"),
        ],
    ),
    (
        "models/transformer.py",
        "unet",
        [
            ("channels, eps=1e-6)", "channels, eps=1e-5)"),
            ("self.norm1 = nn.LayerNorm(channels)", "self.norm1 = nn.LayerNorm(channels, 1e-6)"),
            ("self.norm2 = nn.LayerNorm(channels)", "self.norm2 = nn.LayerNorm(channels, 1e-6)"),
            ("self.norm3 = nn.LayerNorm(channels)", "self.norm3 = nn.LayerNorm(channels, 1e-6)"),
            ("self.heads, self.upcast)", "self.heads)"),
            ("F.gelu(F.linear(x, wg, bg))", 'F.gelu(F.linear(x, wg, bg), approximate="tanh")'),
            ("condition.cross.get(self.attn2) or ", ""),
        ],
    ),
    ("models/unet_config.py", "unet", [("norm_eps: float = 1e-5", "norm_eps: float = 1e-6")]),
    (
        "models/unet.py",
        "unet controlnet",
        [
            ("widths[0], config.norm_eps)", "widths[0], 1e-5)"),
            ("config.depths[last - i]", "config.depths[i]"),
            ("config.heads[-1], config.depths[-1]", "config.heads[-1], config.depths[0]"),
            ("told.repeat_interleave(rows // len(told), 0)", "told.repeat(rows // len(told), 1)"),
            (
                "ResnetBlock(i, o, groups=config.norm_num_groups, eps=config.norm_eps,",
                "ResnetBlock(i, o, groups=config.norm_num_groups, eps=1e-5,",
            ),
            (
                "channels, channels, groups=config.norm_num_groups, eps=config.norm_eps,",
                "channels, channels, groups=config.norm_num_groups, eps=1e-5,",
            ),
            (
                "torch.cat([x, condition.channels]",
                "torch.cat([condition.channels, x]",
            ),
            ("config.heads[last - i]", "config.heads[i]"),
            ("skips[-1].shape[-2:]", "[2 * side for side in x.shape[-2:]]"),
            ("skips[i] = skips[i] + more", "skips[i] = more"),
            (
                "self.conv_in(x), time, condition, share, residuals.early",
                "self.conv_in(x), time, condition, share, {}",
            ),
            ("maps += [width] * (layers + (i < last))", "maps += [width] * (layers + 1)"),
        ],
    ),
    (
        "models/layers.py",
        "unet vae",
        [
            ("    if upcast:\n", "    if False:\n"),
            ("angle = values.float()", "angle = values.floor()"),
            ("/ (half - 1)))", "/ half))"),
            ("1000 * (scales.float() - 1)", "1000 * scales.float()"),
            ("F.pad(x, (0, 1, 0, 1))", "F.pad(x, (1, 0, 1, 0))"),
        ],
    ),
    (
        "models/vae.py",
        "vae",
        [
            ("EPS = 1e-6", "EPS = 1e-5"),
            ("logvar.clamp(-30, 20)", "logvar"),
            ("logvar.clamp(-30, 20)", "logvar.clamp(-20, 20)"),
            ("attend(self.to_q(h), self.to_k(h),", "attend(self.to_k(h), self.to_q(h),"),
            ("2 ** (len(self.block_out_channels) - 1)", "8"),
        ],
    ),
    (
        "models/text.py",
        "text",
        [
            ("layers[-(self.skip or 2)]", "layers[-2]"),
            ("layers[-(self.skip or 2)]", "layers[-(self.skip or 1)]"),
            ("final_layer_norm(layers[-(self.skip or 1)])", "final_layer_norm(layers[-1])"),
            ("final_layer_norm(layers[-(self.skip or 1)])", "forward(layers[-1])"),
            ("own[index] for name", "own[0] for name"),
            ("(n, 1 + i, token.vector)", "(n, i, token.vector)"),
            ("sum(counts[:n])", "n"),
            ("words.row([])", "words.row(rows[0])"),
            ("check(prompt)", "pass"),
            ('self.weighting != "plain" and any', "any"),
            ("> LONGEST:", "> 10**9:"),
            ("[height, width, 0, 0, height, width]", "[width, height, 0, 0, width, height]"),
            ("zeros = torch.zeros_like(empty.prompt)", "zeros = empty.prompt"),
        ],
    ),
    (
        "models/chunks.py",
        "chunks text",
        [
            ("_BACK = 20", "_BACK = 21"),
            ("_WORD = 8", "_WORD = 9"),
            ("begin=piece.begin + token.begin, ", ""),
            (", weight=piece.weight)", ")"),
            ("Token(0, begin, weight, vector)", "Token(0, begin, 1.0, vector)"),
            ("if len(chunk) + len(group) > room:", "if len(chunk) + 1 > room:"),
            (
                "chunk[: last_comma + 1], chunk[last_comma + 1 :]",
                "chunk[:last_comma], chunk[last_comma:]",
            ),
            ("[1.0, *(t.weight for t in chunk),", "[*(t.weight for t in chunk), 1.0,"),
            ("torch.where(w == 1, z,", "torch.where(w == 2, z,"),
            ("empty + w * (x - empty)", "w * (x - empty)"),
            ("mean[0] / mean[1]", "mean[1] / mean[0]"),
            (".mean((1, 2), keepdim=True)", ".mean()"),
        ],
    ),
    (
        "prompt.py",
        "prompt",
        [
            ("ROUND, SQUARE = 1.1, 1 / 1.1", "ROUND, SQUARE = 1.1, 0.9"),
            ("piece[1] * factor", "factor"),
            ("float(number)", "ROUND * float(number)"),
            ('number is not None and opened["("]', "number is not None"),
            ("(text[1:], 1.0)", "(text, 1.0)"),
            ("\\bBREAK\\b", "BREAK"),
            ("part[-1].weight == piece.weight", "False"),
            ("return parts if parts[-1] else", "return"),
            ("(-len(name), name)", "(len(name), name)"),
            ('r"(?<!\\w)" if', '"" if'),
            (
                "yield replace(piece, text=rest, begin=piece.begin + end)",
                "yield replace(piece, text=rest)",
            ),
            ("re.escape(name)", "name"),
            ("<= STRONGEST", "<= 1e9"),
        ],
    ),
    (
        "checkpoint/embedding.py",
        "embedding",
        [
            ("word.lower(): entries", "word: entries"),
            ("if word in embeddings:", "if False:"),
            ("if have != need:", "if False:"),
            ("not 1 <= max(counts) <= room", "False"),
            ("if len(counts) > 1 or", "if"),
            ("for key in PAIR]", "for key in PAIR[::-1]]"),
            ("reshape(-1, tensor.shape[-1])", "reshape(1, -1)"),
            ("if not torch.isfinite(tensor).all():", "if False:"),
            (".to(like)", ""),
        ],
    ),
    (
        "checkpoint/words.py",
        "words",
        [
            ("> layers:", "> layers + 1:"),
            ("self.weighting or text.weighting", "self.weighting or WEIGHTINGS[0]"),
            ("self.skip or text.skip", "self.skip"),
        ],
    ),
    (
        "models/clip.py",
        "clip",
        [
            ("1.702 * x", "1.7 * x"),
            (
                "width, eps = config.hidden_size, config.layer_norm_eps",
                "width, eps = config.hidden_size, 1e-5",
            ),
            (
                "self.final_layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)",
                "self.final_layer_norm = nn.LayerNorm(config.hidden_size)",
            ),
            (
                "self.post_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)",
                "self.post_layernorm = nn.LayerNorm(config.hidden_size)",
            ),
            (
                "            config.hidden_size, config.layer_norm_eps\n",
                "            config.hidden_size\n",
            ),
            ('mode="bicubic", antialias=True', 'mode="bicubic"'),
            ('mode="bicubic"', 'mode="bilinear"'),
            ("pixels.clamp(-1, 1)", "pixels"),
            ("ids.argmax(-1) if eos == 2 else", "ids.argmax(-1) if True else"),
            ("0.40821073", "0.45821073"),
        ],
    ),
    (
        "checkpoint/names.py",
        "names",
        [
            ('after = 2 if "CrossAttn" in kind else 1', "after = 2"),
            ("up = levels - 1 - i", "up = i"),
            ("n * (i + 1)}.0.op", "n * i + 2}.0.op"),
            ('"to_q": "q",\n    "to_k": "k"', '"to_q": "k",\n    "to_k": "q"'),
            ('"emb_layers.1"', '"emb_layers.0"'),
            ('"nin_shortcut"', '"skip_connection"'),
            ('"key": "to_k",\n    "value": "to_v"', '"key": "to_v",\n    "value": "to_k"'),
            ("(model_ema", "(model_em"),
            ("(^|", "("),
            ('not key.startswith(("text_model.",', 'key.startswith(("text_model.",'),
        ],
    ),
    (
        "checkpoint/names_openclip.py",
        "spellings",
        [
            ("int(layer) == config.num_hidden_layers", "int(layer) >= config.num_hidden_layers"),
            ("found and not projected and", "found and"),
            ('zip("qkv",', 'zip("kqv",'),
            ("entry.turned() if plain else entry", "entry"),
            ('plain = name == "text_projection"', "plain = True"),
            ("        if projected:", "        if True:"),
        ],
    ),
    (
        "checkpoint/single_file.py",
        "spellings predicted distilled",
        [
            ("prediction or predicted(entries, kind)", "predicted(entries, kind) or prediction"),
            ("> 0.09", "> 0.08"),
            ("kind.prediction or kind.family is not Family.SD2", "kind.prediction"),
            (" or ours.get(name.replace(", " or (name.replace("),
            ("name if key in found[network] else key", "key"),
            ("name if key in found else key", "key"),
            ('"ztsnr" in entries or', ""),
            (', timestep_spacing="trailing"', ""),
            ("time_cond_proj_dim=scale.shape[1]", "time_cond_proj_dim=scale.shape[0]"),
        ],
    ),
    (
        "checkpoint/family.py",
        "spellings predicted single_file",
        [
            ("scaling_factor=0.13025, ", ""),
            (", force_upcast=True", ""),
            ("pads=(END,", "pads=(None,"),
            ('pads=("!",)', "pads=(None,)"),
            (", upcast_attention=True", ""),
            ("unet.sample_size * 3 // 2", "unet.sample_size"),
            ("num_hidden_layers=23", "num_hidden_layers=24"),
        ],
    ),
    (
        "checkpoint/eight_bits.py",
        "eight_bits",
        [
            (" or found[weight].file != scale.file", ""),
            ("scale.values != 1", "scale.values == 0"),
            ('".scale_input", ', ""),
            ('"F8_E5M2")', '"F8_E8M0")'),
        ],
    ),
    (
        "checkpoint/build.py",
        "spellings eight_bits",
        [
            ("slice(*entry.rows)", "slice(0, entry.rows[1] - entry.rows[0])"),
            ("tensor.T if entry.transposed else tensor", "tensor"),
            ("tensor.float() * file", "tensor.float() / file"),
            ("if key in expected and entry.dtype", "if entry.dtype"),
        ],
    ),
    (
        "checkpoint/load.py",
        "sdxl room eight_bits spellings",
        [
            ("plan.check()", "pass"),
            ("waves=unet.config.addition_time_embed_dim or 0", "waves=0"),
            ("zeros=plans.zeros", "zeros=True"),
            ("    check_room(str(path)", "    print(str(path)"),
            ("config.projection_dim + sizes", "config.hidden_size + sizes"),
            ("dtype or pick_dtype(", "pick_dtype("),
        ],
    ),
    (
        "checkpoint/vocabulary.py",
        "sdxl weights",
        [
            ("Tokenizer.load(where, pad)", "Tokenizer.load(where)"),
            ("FOLDERS[: len(pads)]", "FOLDERS[:1] * len(pads)"),
        ],
    ),
    (
        "device.py",
        "room",
        [
            ("4 * values > free / 2", "2 * values > free / 2"),
            ("if needed <= free:", "if needed <= 2 * free:"),
            ("needed <= free / 4", "needed <= free / 2"),
        ],
    ),
    (
        "checkpoint/identity.py",
        "identity",
        [
            ('part[1:] not in names if part[0] == "!"', 'True if part[0] == "!"'),
            ("all(part[1:]", "any(part[1:]"),
            ("if len(missing) > 1:", "if len(missing) > 2:"),
            ("inputs = _first(entries, *_CONV_IN)[1]", "inputs = _first(entries, *_CONV_IN)[0]"),
            ("channels not in (0, 4)", "channels not in (0, 4, 16)"),
            ("if kind.role is not role:", "if False:"),
            ("if edits and family is Family.SDXL:", "if False:"),
            ('"v_pred" in entries or', ""),
            ('or architecture.endswith("-768-v")', ""),
            ('.removesuffix("_prediction")', ""),
            ("return max(entry.shape[:2])", "return entry.shape[0]"),
            ("return other[1] * entry.shape[1]", "return other[0] * entry.shape[1]"),
            ('or "to_k_ip" in key', ""),
            ("(not widths <= {768, 1024, 1280} or", "("),
            ('any("." in key for key in entries)', "False"),
            ('Family.SDXL if "clip_g" in entries else', ""),
            ("{768: Family.SD1, 1024: Family.SD2}.get(width)", "None"),
            ("_t2i_family(entries) or _family", "_family"),
        ],
    ),
    (
        "checkpoint/kinds.py",
        "identity",
        [
            ("kind.family is not family", "False"),
            ("if channels in (4, 8):", "if channels in (4, 8, 9):"),
        ],
    ),
    (
        "cli/describe_file.py",
        "describe_file",
        [
            ("len(entry.shape) == 4 and entry.shape[-1] > 1", "False"),
            ("ranks.add(entry.shape[0])", "ranks.add(entry.shape[-1])"),
            ("ways.setdefault(layer, _CHANGES", "ways.setdefault(key, _CHANGES"),
            ("(64, 256) else 3", "(64, 192, 256) else 3"),
            ("plain[0] // width", "plain[0]"),
            ("_LAYERS.get(layers) or _EMBEDDING", "_EMBEDDING"),
            ("next(filter(token.fullmatch, entries), path.stem)", "path.stem"),
            ("kind.role is not None and kind.family is None", "kind.family is None"),
            ("if kind.role is None:\n", "if False:\n"),
            ('!= "None"}', "}"),
            ("if values < 1e5:", "if False:"),
        ],
    ),
    (
        "settings.py",
        "pipeline_settings inspect",
        [
            ("        **weights.settings,\n", ""),
            ("if type(noise) is kind), OWN)", "), OWN)"),
            ("if sampler is kind), OWN)", "), OWN)"),
            ('"mu": plain(attention.mu)', '"mu": attention.mu'),
        ],
    ),
    (
        "shots/init.py",
        "shots_init shots_invert",
        [
            ("a**0.5 * z[:, start:stop]", "z[:, start:stop]"),
            ("(1 - a) ** 0.5 * shot.noise(start, stop)", "(1 - a) ** 0.5 * shot.noise(0, 1)"),
            ("init=OWN, strength=self.strength", "init=OWN"),
        ],
    ),
    (
        "schedule.py",
        "shots_init shots_invert",
        [
            ("return levels[steps - run :]", "return levels[steps - run - 1 :]"),
            ("if run < 1:", "if run < 0:"),
        ],
    ),
    (
        "shots/given.py",
        "shots_init shots_invert",
        [("len(frames) not in (1, shot.frames)", "len(frames) > shot.frames")],
    ),
    (
        "shot.py",
        "shots_init shots_invert",
        [("if self.start is not self.noise:", "if False:")],
    ),
    (
        "shots/mask.py",
        "shots_mask",
        [
            ("lerp(x0, mask[:, start:stop])", "lerp(x0, 1 - mask[:, start:stop])"),
            ("> 0.5).float()", "> 0.6).float()"),
            ("F.max_pool2d(", "F.avg_pool2d("),
            ("if shot.correct is not None:", "if False:"),
        ],
    ),
    (
        "shots/invert.py",
        "shots_invert shots_mask",
        [
            ("levels=levels[::-1]", "levels=levels"),
            ("(1.0,) * shot.frames", "(2.0,) * shot.frames"),
            ("denoise(y, there)", "denoise(x, here)"),
            ("correct=None,", ""),
            ("noise.lerp(eps, 0.7)", "noise"),
        ],
    ),
    (
        "shots/travel.py",
        "shots_travel",
        [
            ("(frame - before) / (after - before)", "(frame - before) / after"),
            ("if b.condition.prompt is own", "if True"),
            ("max(k for k in keys if k <= frame)", "min(k for k in keys if k <= frame)"),
            ("0 <= frame < shot.frames", "0 <= frame <= shot.frames"),
            (
                "path(as_long([c.prompt for c in points.values()]))",
                "path([c.prompt for c in points.values()])",
            ),
        ],
    ),
    (
        "shots/edit.py",
        "shots_edit",
        [
            ("/ pipe.weights.vae.config.scaling_factor", ""),
            ("torch.zeros_like(picture)", "picture"),
            ("self.image_cfg - text, text", "self.image_cfg, text"),
            ("if len(shot.branches) != 2:", "if len(shot.branches) > 2:"),
        ],
    ),
    (
        "shots/text2video_zero.py",
        "shots_text2video_zero",
        [
            ("attention=FrameAttention(1)", "attention=shot.attention"),
            ("(1 - kept) ** 0.5 * fresh", "(1 - kept) * fresh"),
            ("frame * down), source(w, frame * across)", "down), source(w, across)"),
            ("early = min(early, steps - 1)", "pass"),
            ("if shot.sampler is not ddim:", "if False:"),
        ],
    ),
    (
        "models/transformer.py",
        "shots_image_prompt",
        [
            ("h = h + self.found(q, *picture)", "h = self.found(q, *picture)"),
            ("condition.pictures.get(self.attn2)", "None"),
        ],
    ),
    (
        "condition.py",
        "condition",
        [
            ("torch.cat(keys), torch.cat(values)", "torch.cat(keys), torch.cat(keys)"),
            ("for p in pictures), strict=True)", "for p in pictures[::-1]), strict=True)"),
            ("if len(pictures) not in (0, len(conditions)):", "if False:"),
        ],
    ),
    (
        "models/clip.py",
        "clip",
        [
            ("self.vision_model.layers(pixels)[-2]", "self.vision_model.layers(pixels)[-1]"),
            ("covering(frames, side, side)", "covering(frames, side, side).flip(1)"),
        ],
    ),
    (
        "checkpoint/load.py",
        "checkpoint_vae",
        [
            ("vae.force_upcast and unet", "unet"),
            ("vae.force_upcast and unet.addition_embed_type is not None", "vae.force_upcast"),
        ],
    ),
    (
        "shots/image_prompt.py",
        "shots_image_prompt",
        [
            ("(k, self.weight * v)", "(self.weight * k, v)"),
            ("seen if branch.condition.prompt is prompt else unseen", "seen"),
            ("if any(branch.condition.pictures for", "if all(not branch.condition.prompt.ndim for"),
            ('check_range("image_weight", self.weight, HEAVIEST)', "pass"),
        ],
    ),
    (
        "models/ip_adapter.py",
        "shots_image_prompt checkpoint_ip_adapter",
        [
            (
                "unet.down_blocks, unet.up_blocks, unet.mid_block",
                "unet.down_blocks, unet.mid_block",
            ),
            ("str(2 * i + 1)", "str(2 * i)"),
            ("torch.zeros_like(seen)", "seen"),
            ("torch.zeros_like(pixels)", "pixels - 1"),
            ("torch.cat([seen, queries], dim=1)", "seen"),
            ("x = x + attention(seen, x)", "x = attention(seen, x)"),
            ("return x + feed(x)", "return feed(x)"),
            ("self.heads = width // HEAD", "self.heads = 1"),
            ("seen, queries = self.norm1(seen), self.norm2(queries)", "pass"),
        ],
    ),
    (
        "checkpoint/ip_adapter.py",
        "checkpoint_ip_adapter",
        [
            ("check_family(path, kind, Family.of(width))", "pass"),
            ("replace(config, width=width)", "config"),
            ("vision.projection_dim if config.form", "vision.hidden_size if config.form"),
            ('path.parent.parent / "models", path', "path"),
            ("{**inner, **projection}", "inner"),
            ("round(places**0.5) * patch", "patch"),
        ],
    ),
    (
        "checkpoint/vae.py",
        "checkpoint_vae",
        [
            ("wanted(path, entries, Role.VAE)", "pass"),
            ("if len(scales) > 1:", "if False:"),
            ("if found != needed:", "if False:"),
            ("vae_dtype(config, weights.unet.config, some.dtype, some.device)", "some.dtype"),
            ('(half == "decoder" and not ours)', '(half == "decoder")'),
            ("if not HARMLESS.search(name)", "if True"),
            ("and beside != path and beside.exists()", "and False"),
            ('{**weights.settings, "vae"', '{"vae"'),
        ],
    ),
    (
        "models/taesd.py",
        "taesd",
        [
            ("3 * torch.tanh(z / 3)", "z"),
            ("* 2 - 1", "* 2"),
            ("(pixels + 1) / 2", "pixels"),
            ("F.relu(self.conv(x) + x)", "self.conv(x) + x"),
            ("stride=2, padding=1, bias=False", "stride=2, padding=1, bias=True"),
        ],
    ),
    (
        "resize.py",
        "inputs clip",
        [
            ("(sides[0] - height) // 2, (sides[1] - width) // 2", "0, 0"),
            ("wide = w * height > h * width", "wide = w * height < h * width"),
            (", antialias=True", ""),
        ],
    ),
    (
        "cli/image_prompt.py",
        "cli_image_prompt",
        [
            ("read_ip_adapter(args.ip_adapter)", "pass"),
            ("args.image_encoder)", "None)"),
            (
                "[ImagePrompt(adapter, encoder, picture, **weight)]",
                "[ImagePrompt(adapter, encoder, picture)]",
            ),
        ],
    ),
    (
        "cli/request.py",
        "inputs sample make",
        [
            ("2**63 - args.count", "2**63"),
            ('not line.startswith("#")', "True"),
            ('text.split("\\n")', "text.splitlines()"),
            ("if frame >= frames:", "if frame > frames:"),
            ("int(frame) in prompts", "False"),
            ('"--" if args.named == [] else args.named', "args.named"),
            ("given.keys() - {f.name for f in fields(kind)}", "set()"),
            ("        if args.invert:\n            made", "        if False:\n            made"),
        ],
    ),
    (
        "canny.py",
        "canny",
        [
            ('mode="replicate"', 'mode="reflect"'),
            ("math.tan(math.pi / 8)", "math.tan(math.pi / 7)"),
            ("(dx < 0) != (dy < 0)", "(dx < 0) == (dy < 0)"),
            ("gradient.abs().sum(1).max(0)", "gradient.abs().sum(1).min(0)"),
            ("(size >= beside(0, 1))", "(size > beside(0, 1))"),
            ("(size > beside(-1, 0))", "(size >= beside(-1, 0))"),
            ("(size > beside(1, 1))", "(size >= beside(1, 1))"),
            ("size > math.floor(low)", "size >= math.floor(low)"),
            ("size > math.floor(high)", "size >= math.floor(high)"),
            ("front = near[left[near]].unique()[:, None]", "front = front[:0]"),
        ],
    ),
    (
        "models/controlnet.py",
        "controlnet control",
        [
            ("pictures = pictures.flip(1)", "pass"),
            ("self.conv_in(x) + picture", "self.conv_in(x)"),
            ("if self.config.global_pool_conditions:", "if False:"),
            ('"in_channels": unet.out_channels', '"in_channels": unet.in_channels'),
        ],
    ),
    (
        "models/t2i_adapter.py",
        "t2i_adapter control",
        [
            ("down = i == 2 if", "down = i == 1 if"),
            ("ceil_mode=True", "ceil_mode=False"),
            ("pictures.mean(1, keepdim=True)", "pictures[:, :1]"),
            ("return x + self.block2(F.relu(", "return x + self.block2(F.silu("),
            ("inside = channels // 4 if light", "inside = channels // 2 if light"),
        ],
    ),
    (
        "shots/control.py",
        "shots_control",
        [
            ("i / steps >= start", "i / steps > start"),
            ("(i + 1) / steps <= end", "i / steps <= end"),
            ('if t.device.type == "cpu" and not works:', "if False:"),
            ("strength = strength * works", "strength = strength * 1"),
            ("[none] * (len(shot.branches) - 1)", "[strength] * (len(shot.branches) - 1)"),
            ("copy.deepcopy(net, {id(p): p for p in net.parameters()})", "net"),
            ("[None].float() / 255", "[None].float() / 127.5 - 1"),
            ("sums[i] + more if i in sums else more", "more"),
            ("return [n, 2 * n - 1, 3 * n - 1, 3 * n]", "return [n, 2 * n, 3 * n - 1, 3 * n]"),
            ("fits = fits and len(levels) == ", "len(levels) == "),
            ("more = strength * residual", "more = residual"),
        ],
    ),
    (
        "attention.py",
        "shots_control",
        [("self.before.get(norm) if", "self.before[norm] if")],
    ),
    (
        "checkpoint/control.py",
        "control",
        [
            ("2 * PICTURE.index(", "PICTURE.index("),
            ("tensor += base\n", "pass\n"),
            ("up.flatten(1) @ down.flatten(1)", "2 * up.flatten(1) @ down.flatten(1)"),
            ('"shuffle" in path.stem', "False"),
            ("if k.startswith(prefix) and k not in", "if k not in"),
            ("    if tensors:", "    if False:"),
            ("return getattr(model.get_submodule(path), name)", "return None"),
        ],
    ),
    (
        "checkpoint/int8.py",
        "int8",
        [
            ("largest / 127", "largest / 255"),
            ("flatten(1).abs().amax(1)", "abs().amax().expand(len(weight))"),
            ("for network in (weights.unet, ", "for network in (*[], "),
            ("torch.finfo(torch.float32).tiny", "torch.finfo(weight.dtype).tiny"),
        ],
    ),
    (
        "shots/deepcache.py",
        "shots_deepcache",
        [
            ("self.step % self.every == 0", "self.step % self.every == 1"),
            ("self.step + 1 if now < self.last else 0", "self.step + 1"),
            ("if t is not self.t:", "if t != self.t:"),
            ("self.passes += 1", "pass"),
            ("del self.kept[self.passes :]", "pass"),
            ("if not isinstance(shot.model, UNet) or", "if"),
        ],
    ),
    (
        "cli/start.py",
        "terminal",
        [("if not os.environ.keys() & {*WAITING}:", "if True:"), ('"passive"', '"active"')],
    ),
    (
        "checkpoint/t2i_adapter.py",
        "control",
        [
            ("unshuffled in (256, 768)", "unshuffled == 768"),
            ("divmod(int(match[1]), 2)", "divmod(int(match[1]), 3)"),
            ('"down_opt.op.", "downsample."', '"down_opt.op.", "down."'),
            ("widths[:-1] if light else widths", "widths"),
        ],
    ),
    (
        "cli/control.py",
        "control_command",
        [
            ("if s.fps is not None", "if True"),
            ("        read_control(net)", "        pass"),
            ("pictures = canny(pictures, *one.edges)", "pass"),
            ("if len(given) != count:", "if False:"),
            ("if given and not count:", "if False:"),
            ("one.weight, one.span))\n    return made", "one.weight))\n    return made"),
        ],
    ),
    (
        "cli/inputs.py",
        "inputs",
        [
            ("return length if length > 1 else 8", "return length"),
            ("round(usual * (width / height) ** 0.5)", "usual"),
            (".mean(-1) / 255", ".mean(-1) / 510"),
            ("(width, height) != (usual, usual)", "width != usual"),
        ],
    ),
    (
        "cli/make.py",
        "make inputs sample",
        [
            ("first + i) for prompt", "first) for prompt"),
            ("if args.skip_existing and", "if False and"),
            ("media.check_output(path, 1, args.overwrite)", "pass"),
            ("if len(set(taken)) < len(taken):", "if False:"),
        ],
    ),
    (
        "cli/room.py",
        "cli_room sample",
        [
            ("if needed > 4 * free:", "if False:"),
            ("if way.needed <= room:", "if True:"),
            ("int(most) - model_memory(self.pipe.weights)", "int(most)"),
            ("together=both and self.order.together", "together=both"),
            ("(True,) if asked.split_guidance else (True, False)", "(True,)"),
            ("(None,) if tiled else (None, *TILES)", "(None,)"),
        ],
    ),
    (
        "cli/output.py",
        "output make",
        [
            ("step % 5 == 0 or step == steps", "step == steps"),
            ("(len(seen) - 1)", "len(seen)"),
            ("if self.frames else part\n", "if False else part\n"),
            ("max(1, self.frames - 1)", "max(1, self.frames)"),
            ('"fps": self.fps}', '"fps": 8.0}'),
        ],
    ),
    (
        "write_media.py",
        "output media",
        [
            ("            if not some:\n                raise\n", ""),
            ("with _uninterrupted():", "if True:"),
            ("if heard:", "if False:"),
            ("if palette is None:", "if True:"),
            ("            done += 1\n            _write_frame", "            _write_frame"),
        ],
    ),
    (
        "media.py",
        "output media",
        [
            ("        raise made.error\n", "        pass\n"),
            ("                if number == 0:\n", "                if True:\n"),
        ],
    ),
    (
        "memory.py",
        "memory_of_streams",
        [
            ("x.device, dtype)", "x.device, torch.float32)"),
            ("lambda x: x.to(device, torch.float32)", "lambda x: x"),
            ("if found.get(key) != wanted.get(key):", "if False:"),
            ("sorted({*found, *wanted})", "sorted(found)"),
            ("start += tensors", "start += 1 or tensors"),
            (
                "        os.replace(part, path)\n",
                "        os.replace(part, path.with_suffix('.x'))\n",
            ),
            ("        check_told(self.folder, told, self.told)\n", ""),
        ],
    ),
    (
        "cli/state.py",
        "memory_of_streams sample",
        [
            ("if told is not None and not args.resume:", "if False:"),
            ("args.seed = told.get", "_ = told.get"),
            ("if told is None or not target.exists():", "if not target.exists():"),
            ('("prompt", "seed", "model")', "()"),
        ],
    ),
    (
        "extend.py",
        "memory_of_streams",
        [
            ("if frames <= now:", "if False:"),
            ('if settings.get("noise") == "loop":', "if False:"),
            ('{**settings, "frames": frames}', "settings"),
        ],
    ),
    (
        "enhance.py",
        "enhance",
        [
            (
                "picture = frame.permute(2, 0, 1).to(device) / 255",
                "picture = frame.permute(2, 0, 1) / 256",
            ),
            ("int(side) * args.scale", "int(side)"),
            ("if not 2 <= (value := getattr(args, name)) <= 8:", "if False:"),
            ("if args.strength is not None:", "if False:"),
        ],
    ),
    (
        "models/esrgan.py",
        "esrgan",
        [
            ("return x + SHARE * self.conv5(maps)", "return x + self.conv5(maps)"),
            (
                "F.pixel_shuffle(self.body(x), scale) + larger",
                "F.pixel_shuffle(self.body(x), scale)",
            ),
            ("SLOPE = 0.2", "SLOPE = 0.1"),
            ("-width % self.fold", "0"),
            ("s * (top - t)", "0"),
        ],
    ),
    (
        "models/tiled_vae.py",
        "tiled_vae",
        [
            ("step = side - side // 4", "step = side"),
            ("made * fine.to(x.device)", "made"),
            ("min(i * step, max(0, length - side))", "i * step"),
        ],
    ),
    (
        "cli/words.py",
        "make cli_words",
        [
            ("not in weights.defaults.words]", "in weights.defaults.words]"),
            ("if not piece.name]", "]"),
            ('if args.prompt_weights != "plain":', "if False:"),
            ("weights.text.embeddings.keys() -", "weights.text.embeddings.keys() &"),
            (", *travelled]", "]"),
        ],
    ),
]


def main(words: list[str]) -> None:
    chosen = [
        (file, tests.split(), old, new)
        for file, tests, lines in MUTATIONS
        for old, new in lines
        if all(word in f"{file} {new}" for word in words)
    ]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "zs2"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "__pycache__"))
        if not passes(tree, sorted({test for _, tests, _, _ in chosen for test in tests})):
            sys.exit("the tests fail as it is: mend them first")
        verdicts = [attempt(tree, *mutation) for mutation in chosen]
    kinds = sorted(set(verdicts))
    print(f"{len(verdicts)}:", ", ".join(f"{verdicts.count(kind)} {kind}" for kind in kinds))


def attempt(tree: Path, file: str, tests: list[str], old: str, new: str) -> str:
    """The verdict on one mutant, printed."""
    path = tree / "zs2" / file
    before = path.read_text()
    after = before.replace(old, new)
    if (times := before.count(old)) != 1:
        verdict = f"misplaced, {times} times in its file"
    else:
        compile(after, str(path), "exec")  # a mutant that is no Python says nothing
        path.write_text(after)
        verdict = "survived" if passes(tree, tests) else "killed"
        path.write_text(before)
    was, now = (" ".join(text.split()) for text in (old, new))
    print(f"{verdict:9} {file}: {was} -> {now}", flush=True)
    return verdict.split(",")[0]


def passes(tree: Path, tests: list[str]) -> bool:
    """Whether these tests pass in the tree; False as well if they don't end."""
    files = [f"tests/test_{test}.py" for test in tests]
    if missing := [file for file in files if not (tree / file).exists()]:
        sys.exit(f"no such tests: {', '.join(missing)}")
    # Nothing compiled is kept: two mutants of one second and size would be taken for each other.
    settings = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider", *files]
    env = os.environ | settings
    try:
        return not subprocess.run(
            command, cwd=tree, env=env, capture_output=True, timeout=900
        ).returncode
    except subprocess.TimeoutExpired:
        return False


if __name__ == "__main__":
    main(sys.argv[1:])
