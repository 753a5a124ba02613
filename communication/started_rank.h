#pragma once

#include <cstdint>
#include <string>

namespace echo {

// What the program that started this process says about its place in a job.
struct StartedRank {
  enum class Starter { nobody, mpi, torchrun, slurm };
  Starter starter = Starter::nobody;
  int64_t rank = 0, world = 1;              // of the job
  int64_t local_rank = 0, local_world = 1;  // among the processes of this machine
};

// Reads the environment, in this order: variables of Open MPI's mpirun (OMPI_COMM_WORLD_RANK, ...) and of other starters that
// speak PMIx (srun --mpi=pmix); those of torchrun (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE); those of a Slurm step
// (SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID). With PMIx alone `world` is 0, because only MPI knows it. A Slurm batch
// script itself is not a step. Throws Error (usage) when a variable is missing, no number or out of its range.
StartedRank started_rank();

// The names of the starters in messages.
std::string name_of(StartedRank::Starter starter);

// The address HOST:PORT where rank 0 of torchrun or Slurm waits for the other ranks, from MASTER_ADDR and MASTER_PORT. torchrun
// may use MASTER_PORT itself (TORCHELASTIC_USE_AGENT_STORE=True), and then it is the port after it. Throws Error (usage) when
// one of the variables is missing or wrong.
std::string master_address();

}  // namespace echo
