#pragma once

#include <functional>
#include <memory>

#include "communication/communicator.h"

namespace echo {

// The ranks of this program: those of mpirun if it was started by mpirun, otherwise one. Call it once. Throws Error (usage)
// when it was started by mpirun but built without MPI, and Error (device) when MPI cannot start.
std::shared_ptr<Communicator> connect_processes();

// Runs `body` and returns its exit code. An Error of another rank than the first says whose it is. A stop on request is the
// same on all ranks, so only the first one throws it, and the others return its exit code.
int run_as_rank(const Communicator& communicator, const std::function<int()>& body);

// What a rank gets of its machine.
struct MachineShare {
  int64_t ranks;    // ranks on this machine
  int64_t threads;  // the cores that these ranks may use, divided among them; at least 1
};
// All ranks call it. A rank that mpirun has bound to some cores may use only those.
MachineShare share_of_machine(Communicator& communicator);

}  // namespace echo
