#pragma once

#include <memory>

#include "communication/communicator.h"

namespace echo {

// The ranks that mpirun has started. Calls MPI_Init, and its destructor MPI_Finalize, which waits for all ranks. So it exists
// once in a program. Throws Error (device) when MPI cannot start.
std::shared_ptr<Communicator> make_mpi_communicator();

}  // namespace echo
