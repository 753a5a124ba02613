#pragma once

namespace echo {

// Makes OpenMP threads that wait for work give up their core soon. Call it first in main, with main's argv.
// By default such a thread spins for a while before it sleeps. When other programs want the cores too, a spinning thread holds
// the core that the thread it waits for needs. A training step then takes three times as long, instead of twice
// (docs/benchmarks.md).
// The OpenMP library (libgomp) reads this setting when it is loaded, before main. So the program executes itself once more, in
// the same process, with GOMP_SPINCOUNT set. A user's own OMP_WAIT_POLICY or GOMP_SPINCOUNT is kept. If the second start fails,
// the program continues unchanged.
void shorten_thread_waiting(char** argv);

}  // namespace echo
