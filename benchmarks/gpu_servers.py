"""The server programs of benchmarks/compare_gpu.py. Each reads requests and writes answers, one line of JSON each."""
import ctypes
import json
import os
import queue
import signal
import subprocess
import threading

START_SECONDS = 90  # PyTorch's first import on a machine that has just started


SYSTEM = ctypes.CDLL(None)


def end_with_parent():
    """Ends the program when the run is killed, so that it does not stay on the GPU. (1: PR_SET_PDEATHSIG)"""
    SYSTEM.prctl(1, signal.SIGKILL)


def is_out_of_memory(reason):
    return "out of memory" in reason.lower()


class Server:
    """A program that answers with lines of JSON. It is started again when it has ended or did not answer in time, unless two
    starts in a row failed."""

    def __init__(self, command, log, environment=None):
        self.command, self.log = command, log
        self.environment = {**os.environ, **(environment or {})}
        self.greeting, self.failed_starts, self.process, self.is_greeted = {}, 0, None, False

    def start(self):
        if self.process is None:
            self.is_greeted = False
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                            text=True, env=self.environment, preexec_fn=end_with_parent)
            self.lines = queue.Queue()
            threading.Thread(target=self.read, args=(self.process, self.lines), daemon=True).start()

    @staticmethod
    def read(process, lines):
        for line in process.stdout:
            if line.startswith("{"):  # libraries also print
                lines.put(line)
        lines.put(None)

    def receive(self, timeout):
        try:
            line = self.lines.get(timeout=max(1, timeout))
        except queue.Empty:
            self.stop()
            return {"error": f"no answer within {timeout:.0f} s"}
        try:
            return json.loads(line)
        except (TypeError, ValueError):  # None: the stream has ended; otherwise it ended inside a line
            self.stop()
            return {"error": "the program ended; see the log"}

    def greet(self, timeout=START_SECONDS):
        """The greeting, or an error."""
        if self.failed_starts == 2:
            return {"error": "the program does not start; see the log"}
        try:
            self.start()
        except OSError as error:
            self.failed_starts = 2
            return {"error": str(error)}
        if not self.is_greeted:
            greeting = self.receive(min(timeout, START_SECONDS))
            if "error" in greeting:
                self.failed_starts += 1
                return greeting
            self.greeting, self.is_greeted, self.failed_starts = greeting, True, 0
        return self.greeting

    def ask(self, request, timeout):
        greeting = self.greet(timeout)
        if "error" in greeting:
            return greeting
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError:
            self.stop()
            return {"error": "the program ended; see the log"}
        return self.receive(timeout)

    def stop(self):
        if self.process is None:
            return
        self.process.kill()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            pass  # the driver does not release it; do not wait
        self.process = None
