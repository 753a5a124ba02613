#pragma once

#include <memory>
#include <string>

#include "communication/communicator.h"

namespace echo {

// The name under which the ranks of a job find each other, as bytes. The first rank makes one, and all ranks need the same.
std::string new_nccl_id();
// Such a name on all ranks without an exchange: the first rank waits at HOST:PORT (NCCL_COMM_ID).
std::string nccl_id_at(const std::string& address);

// Ranks with one GPU each, the one that choose_device() has chosen, connected by NCCL. Exchanges run on a stream of their own,
// beside the computation. Tensors of main memory go through the GPU. Sums have the same bits on all ranks and in each run on
// the same machines, but NCCL chooses the order of the additions, and rounds bf16 after each of them.
// starter: what the ranks were started with (SingleProcess, or MPI, which can end the job). timeout: seconds to wait for the
// other ranks while connecting. All ranks call it together. Throws Error (unavailable) when NCCL fails or a rank does not come.
std::shared_ptr<Communicator> make_nccl_communicator(std::shared_ptr<Communicator> starter, const std::string& id, int64_t rank,
                                                     int64_t world, double timeout);

}  // namespace echo
