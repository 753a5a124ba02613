#include "communication/started_rank.h"

#include <charconv>
#include <cstdlib>
#include <optional>

#include "base/error.h"

namespace echo {
namespace {

std::optional<std::string> variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
}

// The number at the start of `text`; -1 when there is none. Slurm writes 4(x2) for four tasks on each of two machines.
int64_t leading_number(const std::string& text) {
  int64_t number = -1;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && (stop == end || *stop == '(' || *stop == ',') ? number : -1;
}

int64_t number_of(const char* name, const std::string& text, int64_t low, int64_t high) {
  const int64_t number = leading_number(text);
  if (number < low || number > high)
    fail(ExitCode::usage, name, "=", text, " in the environment; a number from ", low, " to ", high, " is expected");
  return number;
}

int64_t required(const char* name, int64_t low, int64_t high) {
  const auto text = variable(name);
  if (!text) fail(ExitCode::usage, name, " is missing in the environment, although other variables of its starter are set");
  return number_of(name, *text, low, high);
}

int64_t optional_number(const char* name, int64_t otherwise, int64_t low, int64_t high) {
  const auto text = variable(name);
  return text ? number_of(name, *text, low, high) : otherwise;
}

constexpr int64_t kMostRanks = 1 << 20;

StartedRank of_mpi() {
  StartedRank started{.starter = StartedRank::Starter::mpi};
  if (variable("OMPI_COMM_WORLD_SIZE")) {
    started.world = required("OMPI_COMM_WORLD_SIZE", 1, kMostRanks);
    started.rank = required("OMPI_COMM_WORLD_RANK", 0, started.world - 1);
    started.local_world = optional_number("OMPI_COMM_WORLD_LOCAL_SIZE", 1, 1, started.world);
    started.local_rank = optional_number("OMPI_COMM_WORLD_LOCAL_RANK", 0, 0, started.local_world - 1);
  } else {
    started.rank = required("PMIX_RANK", 0, kMostRanks);
    started.world = 0;
    started.local_world = optional_number("SLURM_STEP_TASKS_PER_NODE", 1, 1, kMostRanks);
    started.local_rank = optional_number("SLURM_LOCALID", 0, 0, kMostRanks);
  }
  return started;
}

}  // namespace

StartedRank started_rank() {
  if (variable("OMPI_COMM_WORLD_SIZE") || variable("PMIX_RANK")) return of_mpi();
  StartedRank started;
  if (variable("WORLD_SIZE") && variable("RANK")) {
    started.starter = StartedRank::Starter::torchrun;
    started.world = required("WORLD_SIZE", 1, kMostRanks);
    started.rank = required("RANK", 0, started.world - 1);
    started.local_world = optional_number("LOCAL_WORLD_SIZE", 1, 1, started.world);
    started.local_rank = optional_number("LOCAL_RANK", 0, 0, started.local_world - 1);
  } else if (variable("SLURM_STEP_NUM_TASKS")) {
    started.starter = StartedRank::Starter::slurm;
    started.world = required("SLURM_STEP_NUM_TASKS", 1, kMostRanks);
    started.rank = required("SLURM_PROCID", 0, started.world - 1);
    started.local_rank = required("SLURM_LOCALID", 0, started.world - 1);
    started.local_world = optional_number("SLURM_STEP_TASKS_PER_NODE", started.local_rank + 1, 1, started.world);
  }
  return started;
}

std::string name_of(StartedRank::Starter starter) {
  switch (starter) {
    case StartedRank::Starter::mpi:
      return "mpirun";
    case StartedRank::Starter::torchrun:
      return "torchrun";
    case StartedRank::Starter::slurm:
      return "srun";
    default:
      return "nobody";
  }
}

std::string master_address() {
  const auto host = variable("MASTER_ADDR");
  if (!host || !variable("MASTER_PORT"))
    fail(ExitCode::usage,
         "MASTER_ADDR and MASTER_PORT are missing in the environment; they say where the processes find the first one, e.g. "
         "MASTER_ADDR=node1 MASTER_PORT=29500 (examples/launch shows where to set them)");
  const bool store = variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
  const int64_t port = required("MASTER_PORT", 1, 65534) + store;
  const bool is_ipv6 = host->find(':') != std::string::npos;
  return is_ipv6 ? concat("[", *host, "]:", port) : concat(*host, ":", port);
}

}  // namespace echo
