#pragma once

namespace echo {

// Makes OpenMP threads that wait for work give their core away soon. Call it first in main, with main's argv.
// By default such a thread runs in a loop for a while before it sleeps. Where other programs want the cores too, it then holds
// the core that the thread it waits for needs, and a training step takes three times as long in place of twice
// (docs/benchmarks.md). The OpenMP library (libgomp) reads this setting when it is loaded, before main. So the program starts
// itself once more, in the same process, with GOMP_SPINCOUNT set. A user's own OMP_WAIT_POLICY or GOMP_SPINCOUNT is kept.
// Where a program cannot be started again, it goes on as it is.
void shorten_thread_waiting(char** argv);

}  // namespace echo
