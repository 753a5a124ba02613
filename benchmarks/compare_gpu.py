"""Compares our kernels, steps and generation with PyTorch's on a GPU, in turns (A B A B ...), and checks each target.

    python benchmarks/compare_gpu.py --program FOLDER/gpu_benchmark [--results FILE.json] [--document FILE.md]
        [--quick] [--device cpu --tiny]

Servers live for the whole run (gpu_benchmark, peer_torch_gpu.py), so that set-up and compilation are paid once. A rotation is
a list of cases that are asked for one after the other, round after round; the first round warms up and does not count. Figures
are medians of rounds, ratios medians of the ratios of each round. A case that fails, or for which no time is left, is reported
with its reason and the run goes on. What is quick and ours comes first, what PyTorch compiles for a minute last; after every
round results and document are written anew, so that a run that is killed leaves what it had. benchmarks/gpu_plan.py holds the
cases, gpu_models.py formulas, gpu_report.py targets. benchmarks/run_gpu.sh runs this.
"""
import argparse
import json
import math
import os
import signal
import sys
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gpu_report
from gpu_plan import Plan
from gpu_servers import Server, is_out_of_memory

FULL_SECONDS, QUICK_SECONDS = 510, 140
NO_TIME = "the time limit"


class Ended(BaseException):
    """The run was requested to end."""


def end_run(number, _):
    raise Ended(signal.Signals(number).name)


def write_whole(path, text):
    """Writes by a rename, so that a reader always finds a complete file."""
    with open(path + ".part", "w") as file:
        file.write(text)
    os.replace(path + ".part", path)


class Run:
    def __init__(self, arguments):
        self.arguments = arguments
        self.begin = time.monotonic()
        self.plan = Plan(arguments.tiny, arguments.quick)
        self.rounds = arguments.rounds or (2 if arguments.tiny else 5 if arguments.quick else 7)
        self.limit = arguments.limit or (QUICK_SECONDS if arguments.quick else FULL_SECONDS)
        self.samples, self.failures = {}, {}  # by key: one answer per round; the reason
        self.sketches = {}                    # by key: sketches of the results of a case
        self.fewer_rows = {}                  # by key: (rows, reason for not using all)
        self.is_complete = False
        for path in filter(None, (arguments.results, arguments.document)):
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        self.document_before = ""
        if arguments.document and os.path.exists(arguments.document):
            with open(arguments.document) as file:
                self.document_before = file.read() + "\n"
        self.log = open(os.path.splitext(arguments.results)[0] + ".log", "w")
        ours, device = [arguments.program, "--device", arguments.device], arguments.device
        self.servers = {
            "ours": Server(ours, self.log),
            "peer": Server([sys.executable, arguments.peer, "--device", device.split(":")[0]], self.log),
            "mma": Server(ours, self.log, {"ECHOATT_ATTENTION": "sm80"}),
        }
        for name in ("ours", "peer"):  # in parallel, because the peer's imports take a while
            self.servers[name].start()
        self.greetings = {name: self.servers[name].greet(self.remaining()) for name in ("ours", "peer")}

    def remaining(self):
        return self.limit - (time.monotonic() - self.begin)

    def ask(self, key, name, request, patience):
        server = self.servers[name]
        answer = server.ask(request, min(self.remaining(), self.arguments.patience or patience))
        if "sketch" in answer:
            self.sketches[key] = answer.pop("sketch")
        if "error" in answer:
            self.failures[key] = answer["error"] if self.remaining() > 0 else NO_TIME
            # After some errors a GPU's context is lost. PyTorch's server keeps its compiled code if possible.
            if name != "peer" or "CUDA error" in answer["error"]:
                server.stop()
        return answer

    def rotation(self, name, entries, limit=60, patience=20, trim=False):
        """`limit`: seconds for the first round, and for all others together, so that a case that hangs does not use the time of
        others. `patience`: seconds for an answer. `trim`: each server gives its cached memory back after its turn."""
        start = time.monotonic()
        self.round(entries, 0, patience, trim, end=start + min(limit, self.remaining() - 5))
        end, seconds = time.monotonic() + min(limit, self.remaining()), 0
        for turn in range(1, self.rounds + 1):
            if time.monotonic() + seconds > end:
                break  # only whole rounds, because each is a pair
            seconds = self.round(entries, turn, patience, trim)
            self.store()
        self.release()
        self.note(f"{name}: {time.monotonic() - start:.0f} s")

    def round(self, entries, turn, patience, trim, end=math.inf):
        begin = time.monotonic()
        for key, server, request in entries:
            if key not in self.failures and time.monotonic() > end:
                self.failures[key] = NO_TIME
            if key in self.failures:
                continue
            answer = self.ask(key, server, {**request, "trim": True} if trim else request, patience)
            if "error" not in answer and turn > 0:
                self.samples.setdefault(key, []).append(answer)
        return time.monotonic() - begin

    def release(self):
        for server in self.servers.values():
            if server.process is not None and server.is_greeted:
                if "error" in server.ask({"case": "release"}, min(30, max(5, self.remaining()))):
                    server.stop()

    def note(self, text):
        print(f"{text}, {self.remaining():.0f} s left", file=sys.stderr, flush=True)

    def store(self):
        results = {"command": self.arguments.command, "seconds": time.monotonic() - self.begin, "complete": self.is_complete,
                   "failures": self.failures, "greetings": self.greetings, "fewer_rows": self.fewer_rows,
                   "samples": self.samples}
        write_whole(self.arguments.results, json.dumps(results, indent=1))
        text = gpu_report.section(self)
        if self.arguments.document:
            write_whole(self.arguments.document, self.document_before + text)
        return text

    # ---- what is measured ----------------------------------------------------------------------------------------------

    def measure_elementwise(self):
        self.rotation("ceilings and element-wise kernels", self.plan.ceilings() + self.plan.elementwise())

    def measure_attention(self):
        with_mma = self.plan.tiny or self.greetings["ours"].get("capability") == "9.0"
        self.rotation("attention", self.plan.attention(with_mma), limit=120)
        self.servers["mma"].stop()

    def measure_products(self):
        self.rotation("head and products", self.plan.products())

    def measure_training(self):
        for followers, unshared in ((9, "step"), (17, "step beside 17 follow")):  # two models at a time: their memory
            entries = [(unshared, "ours", self.plan.step(0)), (f"step, {followers} follow", "ours", self.plan.step(followers))]
            self.rotation(f"training, {followers} of {self.plan.model['layers']} follow", entries, patience=60)

    def measure_distillation(self):
        entries = [("step, 1 follows", "ours", self.plan.step(1)), ("distillation", "ours", self.plan.step(1, distill=True))]
        self.rotation("distillation beside the plain step", entries, patience=60)

    def measure_decoding(self):
        entries = [("decode 1", "ours", self.plan.decode(many=False))]
        entries += [(f"decode 64, {n} follow", "ours", self.plan.decode(many=True, followers=n)) for n in (0, 9, 17)]
        self.rotation("decode", entries, patience=60)

    def beside_peer(self, ours, peer, request_of_rows, fields, seconds):
        """Our step and PyTorch's, with as many rows as PyTorch has memory for. `seconds`: time limit for the peer's preparation."""
        reason = NO_TIME
        for rows in self.plan.rows_to_try():
            if self.remaining() < 30:
                break
            request = request_of_rows(rows)
            self.ask(peer, "peer", {**request, **fields, "trim": True}, seconds)
            reason = self.failures.pop(peer, "")
            if not reason:
                entries = [(ours, "ours", request), (peer, "peer", {**request, **fields})]
                self.rotation(peer, entries, trim=True, patience=60)
                reason = self.failures.get(peer, "")
                if not is_out_of_memory(reason) or self.samples.get(peer):
                    return
                for key in (ours, peer):  # these samples have another number of rows
                    self.samples.pop(key, None), self.failures.pop(key, None)
            if not is_out_of_memory(reason):
                break
            self.fewer_rows[peer] = (rows // 2, f"{rows} rows: {reason.splitlines()[0][:160]}")
        self.failures[peer] = self.failures[ours] = reason
        self.release()

    def measure_torch_step(self):
        self.beside_peer("step beside PyTorch", "step, PyTorch", lambda rows: self.plan.step(0, rows=rows),
                         {"module": "own"}, 200)

    def measure_torch_distillation(self):
        self.beside_peer("distillation beside PyTorch", "distillation, PyTorch",
                         lambda rows: self.plan.step(1, seconds=0.4, rows=rows, distill=True), {}, 60)

    def measure_torch_decoding(self):
        request = self.plan.decode(many=False)
        if self.remaining() < 30:
            self.failures["decode 1, PyTorch"] = NO_TIME
        elif "error" not in self.ask("decode 1, PyTorch", "peer", request, 200):
            entries = [("decode 1 beside PyTorch", "ours", request), ("decode 1, PyTorch", "peer", request)]
            self.rotation("decode beside PyTorch", entries, patience=60)

    def measure_transformers_step(self):
        self.beside_peer("step beside transformers", "step, transformers", lambda rows: self.plan.step(0, rows=rows),
                         {"module": "transformers"}, 200)

    OURS = ("elementwise", "attention", "products", "training", "distillation", "decoding")
    BESIDE_COMPILED = ("torch_step", "torch_distillation", "torch_decoding", "transformers_step")

    def measure(self):
        wanted = self.arguments.only or (self.OURS if self.arguments.quick else self.OURS + self.BESIDE_COMPILED)
        for name in self.OURS + self.BESIDE_COMPILED:
            if name not in wanted:
                continue
            try:
                getattr(self, "measure_" + name)()
            except Exception:  # the other cases are still measured
                traceback.print_exc()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True, help="gpu_benchmark")
    parser.add_argument("--peer", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_torch_gpu.py"),
                        help="what answers for PyTorch")
    parser.add_argument("--results", default="gpu_results.json", help="raw samples")
    parser.add_argument("--document", help="a dated section is appended to it")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="a subset, in two minutes")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: tries every case, measures nothing")
    parser.add_argument("--rounds", type=int, help="of a rotation, besides the first (7; --quick 5; --tiny 2)")
    parser.add_argument("--limit", type=float, help="seconds; what is left then is not measured "
                        f"({FULL_SECONDS}; --quick {QUICK_SECONDS})")
    parser.add_argument("--patience", type=float, help="seconds for an answer, instead of those of each case")
    parser.add_argument("--only", nargs="*", choices=Run.OURS + Run.BESIDE_COMPILED)
    parser.add_argument("--command", default=" ".join(sys.argv), help="what the section says it was made with")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end_run)
    run = Run(parser.parse_args())
    try:
        run.measure()
        run.is_complete = True
    except Ended as reason:
        run.note(f"ended by {reason}")
    for server in run.servers.values():
        server.stop()
    for key, reason in run.failures.items():
        print(f"{key}: {reason}", file=sys.stderr)
    print(run.store())
    return 0 if run.is_complete and not run.failures else 1


if __name__ == "__main__":
    sys.exit(main())
