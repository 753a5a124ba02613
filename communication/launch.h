#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "communication/communicator.h"
#include "communication/launch_options.h"
#include "communication/started_rank.h"

namespace echo {

// Starts the processes of `command`, and returns their exit code when they have ended. Returns nothing when this process is
// itself the one that should do the work. `command` is this program with its arguments, without those of LaunchOptions.
//   --nproc N: mpirun starts N ranks. Without MPI, but with NCCL, this process starts them with torchrun's variables.
//   --max-restarts: one process, or the N of --nproc, are started and watched.
//   started by mpirun: each rank starts itself once more and watches that process. mpirun would report a rank that a signal
//   has ended with the code of the signal. So it gets 69 and a line that names the rank.
// Throws Error (usage) for wrong options, and the errors of run_job (job.h).
std::optional<int> run_other_processes(const LaunchOptions& options, const std::vector<std::string>& command);

// The ranks of this program: those of mpirun if it was started by mpirun, otherwise one. Call it once. Throws Error (usage)
// when it was started by a program that needs what this build lacks, and Error (unavailable) when MPI cannot start.
std::shared_ptr<Communicator> connect_processes(const StartedRank& started);

// Ranks that compute on GPUs exchange through NCCL. Returns such a communicator when there are several ranks and the setting
// `device` means GPUs, otherwise `ranks`. All ranks call it together. `timeout`: seconds to wait for the others. Throws Error:
// usage when a setting needs a GPU that is not there; unavailable when another rank does not come.
std::shared_ptr<Communicator> connect_gpus(std::shared_ptr<Communicator> ranks, const StartedRank& started,
                                           const std::string& device, double timeout);

// Runs `body` and returns its exit code. An Error of another rank than the first says whose it is. A stop on request is the
// same on all ranks, so only the first one throws it, and the others return its exit code.
int run_as_rank(int64_t rank, const std::function<int()>& body);

// What a rank gets of its machine.
struct MachineShare {
  int64_t ranks;    // ranks on this machine
  int64_t threads;  // the cores that these ranks may use, divided among them; at least 1
};
// All ranks call it. A rank that mpirun has bound to some cores may use only those.
MachineShare share_of_machine(Communicator& communicator);

}  // namespace echo
