"""Our kernels, steps and generation beside PyTorch's on a GPU, in turns (A B A B ...), and what came of each target.

    python benchmarks/compare_gpu.py --program FOLDER/gpu_benchmark [--results FILE.json] [--document FILE.md]
        [--quick] [--device cpu --tiny]

Two servers live for the whole run (gpu_benchmark, peer_torch_gpu.py), so that set-up and compilation are paid once. A rotation
is a list of cases that are asked for one after the other, round after round; the first round warms up and does not count.
Figures are medians of rounds, ratios medians of the ratios of each round. A case that fails, or for which no time is left, is
reported with its reason and the run goes on. benchmarks/gpu_models.py holds sizes and formulas, benchmarks/gpu_report.py the
targets. benchmarks/run_gpu.sh runs this.
"""
import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gpu_models as models
import gpu_report


class Server:
    """A program that answers lines of JSON. A fresh one is started when it has ended or does not answer in time, unless two in a
    row did not come up."""

    def __init__(self, command, log):
        self.command, self.log = command, log
        self.greeting, self.failed_starts = {}, 0
        self.start()

    def start(self):
        self.is_greeted = False
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, args=(self.process, self.lines), daemon=True).start()

    @staticmethod
    def read(process, lines):
        for line in process.stdout:
            if line.startswith("{"):  # libraries print too
                lines.put(line)
        lines.put(None)

    def receive(self, timeout):
        try:
            line = self.lines.get(timeout=max(1, timeout))
        except queue.Empty:
            self.stop()
            return {"error": f"no answer within {timeout:.0f} s"}
        if line is None:
            self.stop()
            return {"error": "the program ended; see the log"}
        return json.loads(line)

    def ask(self, request, timeout):
        if self.failed_starts == 2:
            return {"error": "the program does not start; see the log"}
        if self.process is None:
            self.start()
        if not self.is_greeted:
            greeting = self.receive(90)
            if "error" in greeting:
                self.failed_starts += 1
                return greeting
            self.greeting, self.is_greeted, self.failed_starts = greeting, True, 0
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError:
            self.stop()
            return {"error": "the program ended; see the log"}
        return self.receive(timeout)

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Run:
    def __init__(self, arguments):
        self.arguments = arguments
        peer = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_torch_gpu.py")
        os.makedirs(os.path.dirname(os.path.abspath(arguments.results)), exist_ok=True)
        self.log = open(os.path.splitext(arguments.results)[0] + ".log", "w")
        device = arguments.device
        self.begin = time.monotonic()
        self.servers = {
            "ours": Server([arguments.program, "--device", device], self.log),
            "peer": Server([sys.executable, peer, "--device", device.split(":")[0]], self.log),
        }
        self.samples, self.failures = {}, {}  # by case key: answers round by round; the reason
        self.tiny = arguments.tiny
        self.model = models.TOY if self.tiny else models.TINYLLAMA
        self.maps = models.TOY_MAPS if self.tiny else models.MAPS
        self.dtype = "f32" if self.tiny else "bf16"

    def remaining(self):
        return self.arguments.limit - (time.monotonic() - self.begin)

    def ask(self, key, server, request):
        answer = self.servers[server].ask(request, min(self.remaining(), 240))
        if "error" in answer:
            self.failures[key] = answer["error"]
            # After some errors a GPU's context is lost for good. PyTorch's server keeps what it has compiled where it can.
            if server == "ours" or "CUDA error" in answer["error"]:
                self.servers[server].stop()
        return answer

    def rotation(self, name, entries, rounds=None, at_once=False, expected=10, alone=False):
        """entries: (key, server, request). at_once: both servers prepare at the same time. expected: seconds, to know when to
        leave it out. alone: each turn has the GPU's memory to itself."""
        if self.remaining() < expected:
            for key, _, _ in entries:
                self.failures[key] = "not measured: the time limit"
            return
        rounds = 2 if self.tiny else 3 if self.arguments.quick else rounds or self.arguments.rounds
        start = time.monotonic()
        if at_once:
            self.warm_up_at_once(entries)
        for turn in range(0 if not at_once else 1, rounds + 1):
            for key, server, request in entries:
                if key in self.failures:
                    continue
                if turn > 1 and self.remaining() < 10:
                    continue
                answer = self.ask(key, server, request)
                if "error" not in answer and turn > 0:
                    self.samples.setdefault(key, []).append(answer)
                if alone and server == "ours":
                    self.servers[server].stop()
        for server in self.servers.values():
            if server.process is not None and server.is_greeted:
                server.ask({"case": "release"}, 60)
        self.servers["ours"].stop()  # its pool keeps what is released
        print(f"{name}: {time.monotonic() - start:.0f} s, {self.remaining():.0f} s left", file=sys.stderr, flush=True)

    def warm_up_at_once(self, entries):
        def warm_up(server):
            for key, asked, request in entries:
                if asked == server and key not in self.failures:
                    self.ask(key, asked, request)

        threads = [threading.Thread(target=warm_up, args=(server,)) for server in self.servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    # ---- cases -------------------------------------------------------------------------------------------------------

    def case(self, name, seconds=0.1, **fields):
        return {"case": name, "seconds": 0.002 if self.tiny else seconds, "dtype": self.dtype, **fields}

    def ceilings(self):
        bytes_, side = (1 << 20, 64) if self.tiny else (4 << 30, 8192)
        copy = self.case("copy", bytes=bytes_)
        matmul = self.case("matmul", m=side, n=side, k=side)
        return [("copy", "ours", copy), ("copy, PyTorch", "peer", copy),
                ("matmul", "ours", matmul), ("matmul, PyTorch", "peer", matmul)]

    def elementwise_tokens(self):
        return 64 if self.tiny else 65536

    def measure_elementwise(self):
        m = self.model
        sizes = dict(tokens=self.elementwise_tokens(), sequence=32 if self.tiny else 2048,
                     **{name: m[name] for name in ("hidden", "mlp", "vocab", "heads", "kv_heads", "head_dim")})
        entries = [(kernel, "ours", self.case("elementwise", kernel=kernel, **sizes)) for kernel in models.ELEMENTWISE]
        parameters = dict(parameters=self.parameters(), spans=4 if self.tiny else 88)
        entries += [(name, "ours", self.case(name, **parameters)) for name in ("adamw", "gradient_norm")]
        self.rotation("ceilings and element-wise kernels", self.ceilings() + entries, expected=15)

    def parameters(self):
        return models.matrix_parameters(self.model) + self.model["vocab"] * self.model["hidden"]

    def step_tokens(self):
        return (2, 32) if self.tiny else (8, 2048)  # rows, tokens a row

    def attention_lengths(self):
        if self.tiny:
            return [32, 64]
        return [2048] if self.arguments.quick else [512, 1024, 2048, 4096, 8192]

    def block_lengths(self):
        return [t for t in self.attention_lengths() if t in (64, 2048, 8192)]

    def measure_attention(self):
        heads = {name: self.model[name] for name in ("heads", "kv_heads", "head_dim")}
        rows, length = self.step_tokens()
        entries = []
        for t in self.attention_lengths():
            shape = dict(rows=max(1, rows * length // t), tokens=t, **heads)
            for direction in ("forward", "backward"):
                request = self.case("attention_" + direction, seconds=0.05, **shape)
                key = f"attention {direction} {t}"
                entries += [(key, "ours", request), (key + ", PyTorch", "peer", request)]
            if t in self.block_lengths():
                entries.append((f"follower forward {t}", "ours", self.case("follower_forward", seconds=0.05, **shape)))
                block = self.case("attention_backward", seconds=0.05, layers=4, **shape)
                entries.append((f"block backward {t}", "ours", block))
        self.rotation("attention", entries, expected=15)

    def measure_products(self):
        rows, length = self.step_tokens()
        m, tokens = self.model, rows * length
        head = dict(tokens=tokens, hidden=m["hidden"], vocab=m["vocab"])
        entries = [self.ceilings()[2], ("head", "ours", self.case("head", **head)),
                   ("head, true labels", "ours", self.case("head", teacher=False, **head))]
        entries[0] = ("matmul, beside the head", *entries[0][1:])
        for name, (rows_, columns, inner, ta, tb, output) in models.layer_products(m, tokens).items():
            product = dict(m=rows_, n=columns, k=inner, transpose_a=ta, transpose_b=tb, output=output)
            entries.append(("product " + name, "ours", self.case("matmul", seconds=0.03, **product)))
        self.rotation("head and products", entries, expected=10)

    def step(self, followers, seconds=0.6, distill=False):
        rows, tokens = self.step_tokens()
        return self.case("step", seconds=seconds, model=self.model, rows=rows, tokens=tokens, leaders=self.maps[followers],
                         distill=distill)

    def measure_training(self):
        entries = [("step", "ours", self.step(0))]
        if not self.arguments.quick:
            entries.append(("step, PyTorch", "peer", self.step(0)))
        self.rotation("training step", entries, at_once=True, expected=60)

    def measure_sharing(self):
        self.rotation("shared training", [(f"step, {n} follow", "ours", self.step(n)) for n in (0, 9, 17)], expected=20)

    def measure_distillation(self):
        entries = [("step, 1 follows", "ours", self.step(1)), ("distillation", "ours", self.step(1, distill=True))]
        self.rotation("distillation beside the plain step", entries, expected=20)
        if not self.arguments.quick:
            request = self.step(1, distill=True, seconds=0.4)
            self.rotation("distillation beside PyTorch", [("distillation, alone", "ours", request),
                                                          ("distillation, PyTorch", "peer", {**request, "trim": True})],
                          rounds=5, alone=True, expected=60)

    def decode(self, batch, context, followers):
        steps = 4 if self.tiny else 64
        return self.case("decode", model=self.model, batch=batch, context=context, steps=steps, leaders=self.maps[followers])

    def measure_decoding(self):
        one = self.decode(1, 32 if self.tiny else 512, 0)
        entries = [("decode 1", "ours", one)]
        if not self.arguments.quick:
            entries.append(("decode 1, PyTorch", "peer", one))
        self.rotation("decode, batch 1", entries, at_once=True, expected=40)
        many = (2, 32) if self.tiny else (64, 2048)
        entries = [(f"decode 64, {n} follow", "ours", self.decode(*many, n)) for n in (0, 9, 17)]
        self.rotation("decode, batch 64", entries, expected=15)

    def measure(self):
        wanted = self.arguments.only
        for name in ("elementwise", "attention", "products", "training", "sharing", "distillation", "decoding"):
            if wanted and name not in wanted:
                continue
            try:
                getattr(self, "measure_" + name)()
            except Exception as error:  # the rest is still worth measuring
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        for server in self.servers.values():
            server.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True, help="gpu_benchmark")
    parser.add_argument("--results", default="gpu_results.json", help="raw samples")
    parser.add_argument("--document", help="a dated section is appended to it")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="a subset, in two minutes")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: tries every case, measures nothing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit", type=float, default=520, help="seconds; what is left then is not measured")
    parser.add_argument("--only", nargs="*", help="of elementwise attention products training sharing distillation decoding")
    parser.add_argument("--command", default=" ".join(sys.argv), help="what the section says it was made with")
    arguments = parser.parse_args()
    run = Run(arguments)
    run.measure()
    for key, reason in run.failures.items():
        print(f"{key}: {reason}", file=sys.stderr)
    text = gpu_report.section(run)
    print(text)
    with open(arguments.results, "w") as file:
        greetings = {name: server.greeting for name, server in run.servers.items()}
        json.dump({"command": arguments.command, "seconds": time.monotonic() - run.begin, "failures": run.failures,
                   "greetings": greetings, "samples": run.samples}, file, indent=1)
    if arguments.document:
        os.makedirs(os.path.dirname(os.path.abspath(arguments.document)), exist_ok=True)
        with open(arguments.document, "a") as file:
            file.write("\n" + text)
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
