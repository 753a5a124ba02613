#include "communication/launch.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "communication/mpi_communicator.h"

namespace echo {
namespace {

// Set in each process by Open MPI's mpirun, and by other starters that speak PMIx, such as Slurm's srun.
bool started_by_mpirun() { return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMIX_RANK") != nullptr; }

std::string host_name() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

// The cores that this process may use: one character per core, '1' or '0'.
std::string allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::string cores(CPU_SETSIZE, '0');
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &set)) cores[size_t(core)] = '1';
  return cores;
}

}  // namespace

std::shared_ptr<Communicator> connect_processes() {
  if (!started_by_mpirun()) return std::make_shared<SingleProcess>();
  if constexpr (ECHO_WITH_MPI == 1) {
    return make_mpi_communicator();
  } else {
    fail(ExitCode::usage, "started by mpirun, but this program was built without MPI; install libopenmpi-dev and run make");
  }
}

int run_as_rank(const Communicator& communicator, const std::function<int()>& body) {
  try {
    return body();
  } catch (const Error& error) {
    if (communicator.rank() == 0) throw;
    if (error.code() == ExitCode::interrupted) return int(error.code());
    throw Error(error.code(), concat("process ", communicator.rank(), ": ", error.what()));
  }
}

MachineShare share_of_machine(Communicator& communicator) {
  const std::string host = host_name(), cores = allowed_cores();
  std::string all_cores(cores.size(), '0');
  int64_t ranks = 0;
  for (const std::string& message : communicator.all_gather(cores + host)) {
    if (message.substr(cores.size()) != host) continue;
    ++ranks;
    for (size_t core = 0; core < cores.size(); ++core)
      if (message[core] == '1') all_cores[core] = '1';
  }
  const int64_t usable = std::count(all_cores.begin(), all_cores.end(), '1');
  return {ranks, std::max<int64_t>(1, usable / ranks)};
}

}  // namespace echo
