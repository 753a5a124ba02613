#include "communication/launch.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "base/error.h"
#include "communication/job.h"
#include "communication/mpi_communicator.h"
#include "communication/nccl_communicator.h"
#include "tensor/cuda_device.h"
#include "tensor/device_choice.h"

namespace echo {
namespace {

// In the environment of a process that another one watches.
constexpr const char* kWatched = "ECHOATT_WATCHED";
constexpr int64_t kMostProcesses = 1024;
constexpr double kNoLimit = 1e9;  // seconds; the starter of the ranks has a limit of its own

constexpr bool kWithMpi = ECHO_WITH_MPI == 1, kWithNccl = ECHO_WITH_NCCL == 1;

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

cuda::DeviceCount gpus_here() {
  if constexpr (kWithCuda) return cuda::device_count();
  return {0, 0, "this program is built without CUDA"};
}

int64_t number_of_processes(const LaunchOptions& options) {
  if (options.processes.empty()) return 1;
  if (options.processes == "auto") {
    const cuda::DeviceCount gpus = gpus_here();
    options.remark(gpus.count > 0 ? concat("--nproc auto: ", gpus.count, " process(es), one for each GPU")
                                  : concat("--nproc auto: one process, because there is no GPU for others (", gpus.reason,
                                           "); give a number to divide the cores"));
    return std::max(1, gpus.count);
  }
  int64_t number = 0;
  const char* const end = options.processes.data() + options.processes.size();
  const auto [stop, error] = std::from_chars(options.processes.data(), end, number);
  if (error != std::errc() || stop != end || number < 1 || number > kMostProcesses)
    fail(ExitCode::usage, "--nproc ", options.processes, ": a number from 1 to ", kMostProcesses, " or auto is expected");
  return number;
}

// mpirun on this machine alone, also within an allocation of many.
JobProcess mpirun_of(int64_t processes, const std::vector<std::string>& command) {
  JobProcess mpirun;
  mpirun.command = {"mpirun",    "--quiet", "-n",     std::to_string(processes),
                    "--bind-to", "none",    "--host", concat("localhost:", processes)};
  mpirun.name = "mpirun";
  mpirun.starts_others = true;
  if (::geteuid() == 0) mpirun.command.push_back("--allow-run-as-root");
  mpirun.command.insert(mpirun.command.end(), command.begin(), command.end());
  return mpirun;
}

// The ranks of this machine with torchrun's variables. NCCL finds the first one at a port of this machine.
std::vector<JobProcess> ranks_of(int64_t processes, const std::vector<std::string>& command) {
  std::vector<JobProcess> ranks;
  const std::string world = std::to_string(processes), port = std::to_string(20000 + ::getpid() % 10000);
  for (int64_t i = 0; i < processes; ++i) {
    const std::string rank = std::to_string(i);
    ranks.push_back({command,
                     {{kWatched, "1"},
                      {"RANK", rank},
                      {"LOCAL_RANK", rank},
                      {"WORLD_SIZE", world},
                      {"LOCAL_WORLD_SIZE", world},
                      {"MASTER_ADDR", "127.0.0.1"},
                      {"MASTER_PORT", port}},
                     "process " + rank});
  }
  return ranks;
}

// Many ranks are stopped when one fails, which is not worth a line from each.
int watch_rank(int64_t rank, const std::vector<std::string>& command) {
  try {
    return run_job({{command, {{kWatched, "1"}}, concat("process ", rank)}}, {.grace_seconds = kNoLimit});
  } catch (const Error& error) {
    if (error.code() != ExitCode::interrupted) throw;
    return int(error.code());
  }
}

}  // namespace

std::optional<int> run_other_processes(const LaunchOptions& options, const std::vector<std::string>& command) {
  const bool is_started = !options.processes.empty() || options.most_restarts > 0;
  const StartedRank started = started_rank();
  if (is_started && started.world != 1)
    fail(ExitCode::usage, "--nproc and --max-restarts start processes, but ", name_of(started.starter),
         " has already started this one; use only one of both");
  const JobSettings settings{
      .grace_seconds = options.grace_seconds, .most_restarts = options.most_restarts, .remark = options.remark};
  if (!is_started) {
    if (started.world == 1 || std::getenv(kWatched) != nullptr) return std::nullopt;
    return watch_rank(started.rank, command);
  }
  const int64_t processes = number_of_processes(options);
  if (processes == 1 && options.most_restarts == 0) return std::nullopt;
  if (processes == 1) return run_job({{command, {}, "the process"}}, settings);
  if constexpr (kWithMpi) return run_job({mpirun_of(processes, command)}, settings);
  if constexpr (kWithNccl) return run_job(ranks_of(processes, command), settings);
  fail(ExitCode::usage, "--nproc ", options.processes,
       ": this program was built without MPI; install libopenmpi-dev and openmpi-bin and run make");
}

std::shared_ptr<Communicator> connect_processes(const StartedRank& started) {
  if (started.world == 1) return std::make_shared<SingleProcess>();
  if (started.starter == StartedRank::Starter::mpi) {
    if constexpr (kWithMpi) return make_mpi_communicator();
    fail(ExitCode::usage, "started by mpirun, but this program was built without MPI; install libopenmpi-dev and run make");
  }
  // NCCL connects them later (connect_gpus).
  if (kWithNccl && gpus_here().count > 0) return std::make_shared<SingleProcess>();
  fail(ExitCode::usage, "started by ", name_of(started.starter), " as one of ", started.world,
       " processes, but without GPUs they need MPI: start them with mpirun -n ", started.world, " --bind-to none",
       started.starter == StartedRank::Starter::slurm ? ", with srun --mpi=pmix" : "", ", or on one machine with --nproc ",
       started.world);
}

std::shared_ptr<Communicator> connect_gpus(std::shared_ptr<Communicator> ranks, const StartedRank& started,
                                           const std::string& device, double timeout) {
  if constexpr (kWithNccl) {
    const int64_t world = std::max(started.world, ranks->world());
    if (world == 1) return ranks;
    const bool over_mpi = ranks->world() > 1;
    const ChosenDevice chosen = choose_device(device, {int(started.local_rank), int(started.local_world)});
    if (!chosen.device.is_cpu()) {
      const std::string id =
          over_mpi ? text_of_first(*ranks, ranks->is_first() ? new_nccl_id() : "") : nccl_id_at(master_address());
      return make_nccl_communicator(ranks, id, over_mpi ? ranks->rank() : started.rank, world, timeout);
    }
    if (!over_mpi)
      fail(ExitCode::usage, "device ", device, ": ", name_of(started.starter), " has started ", world,
           " processes, and without GPUs they need MPI: start them with mpirun");
  }
  return ranks;
}

int run_as_rank(int64_t rank, const std::function<int()>& body) {
  try {
    return body();
  } catch (const Error& error) {
    if (rank == 0) throw;
    if (error.code() == ExitCode::interrupted) return int(error.code());
    throw Error(error.code(), concat("process ", rank, ": ", error.what()));
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
