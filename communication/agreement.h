#pragma once

#include <map>
#include <string>

#include "communication/communicator.h"

namespace echo {

// What must be equal on all ranks, by name: settings, the program, files. The values are printed, so they are short.
using Facts = std::map<std::string, std::string>;

// Throws Error (config) on all ranks when a fact differs between them or is absent on some. The message has each such fact with
// its values and their ranks. All ranks call it together.
void check_ranks_agree(Communicator& communicator, const Facts& facts);

}  // namespace echo
